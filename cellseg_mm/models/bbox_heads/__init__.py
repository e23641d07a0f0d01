from .one_class_bbox_head import OneClassBBoxHead, most_likely_class
from .taught_bbox_head import TaughtBBoxHead, name_cells, naming_features

__all__ = ['OneClassBBoxHead', 'TaughtBBoxHead', 'most_likely_class', 'name_cells', 'naming_features']
