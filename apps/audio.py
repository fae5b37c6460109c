"""Audio page: why does the detector take this recording for real or synthetic speech?"""

import panel as pn

from xai_panel.views.session import warm_up
from xai_panel.views.shell import Shell, new_session
from xai_panel.views.spectrogram_explorer import SpectrogramExplorer

pn.extension()
warm_up()

session = new_session("audio")
Shell(session, SpectrogramExplorer(session), page="audio").page.servable()
