"""The public names, once for all: what is imported on first use, and what type checkers see."""

from . import dag as dag
from . import design as design
from . import exact as exact
from . import tables as tables
from . import topology as topology
from . import training as training
from .auditing.audit import audit as audit
from .auditing.live.law_report import LawReport as LawReport
from .auditing.repair.repair import repair as repair
from .auditing.report import Report as Report
from .conservation.finding import conservation_laws as conservation_laws
from .conservation.laws import Laws as Laws
from .dag.probability.study import sample_dag as sample_dag
from .reporting.heatmaps import heatmap as heatmap
from .reporting.page import write_report as write_report
from .schemes import InitScheme as InitScheme
from .schemes import scheme as scheme
from .schemes import scheme_names as scheme_names
from .studies.factories.model_folder import load_models as load_models
from .studies.factories.model_study import ModelStudy as ModelStudy
from .studies.factories.sampling_models import sample_model as sample_model
from .studies.loading import load as load
from .studies.merging import merge as merge
from .studies.replay import replay as replay
from .studies.run import sample as sample
from .studies.study import Study as Study
from .studies.unreachable import sample_unreachable as sample_unreachable
from .training.monitor import Monitor as Monitor

__version__: str
