"""Reports from plain data: numpy arrays and numbers in, one self-contained page out.

Nothing here knows a store, a network or an orchestrator.
"""

from tasks.rendering.content import MethodRow, Panel, People, Picture, ReportSection
from tasks.rendering.figures import panel_png
from tasks.rendering.latex import latex_table
from tasks.rendering.page import render_report
from tasks.rendering.tables import markdown_table
from tasks.rendering.views import scales_of

__all__ = [
    "MethodRow",
    "Panel",
    "People",
    "Picture",
    "ReportSection",
    "latex_table",
    "markdown_table",
    "panel_png",
    "render_report",
    "scales_of",
]
