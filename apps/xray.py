"""The X-ray page: why did the classifier call this chest radiograph normal, or not?"""

import panel as pn

from xai_panel.views.radiograph_viewer import RadiographViewer
from xai_panel.views.session import warm_up
from xai_panel.views.shell import Shell, new_session

pn.extension()
warm_up()

session = new_session("radiograph")
Shell(session, RadiographViewer(session=session), page="xray").page.servable()
