"""The Compare page: what do the methods say about one signal, side by side, and which of them should one believe?"""

import panel as pn

from xai_panel.views.comparison import Comparison
from xai_panel.views.session import warm_up
from xai_panel.views.shell import Shell, new_session

pn.extension("tabulator")
warm_up()

session = new_session(None)
Shell(session, Comparison(session=session, second=new_session(None)), page="compare").page.servable()
