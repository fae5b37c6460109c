"""The Images page: what did an added classifier see in this image?"""

import panel as pn

from xai_panel.views.radiograph_viewer import RadiographViewer
from xai_panel.views.session import warm_up
from xai_panel.views.shell import Shell, new_session

pn.extension()
warm_up()

session = new_session("image")
Shell(session, RadiographViewer(session=session), page="images").page.servable()
