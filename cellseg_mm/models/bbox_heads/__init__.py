from .one_class_bbox_head import OneClassBBoxHead, most_likely_class

__all__ = ['OneClassBBoxHead', 'most_likely_class']
