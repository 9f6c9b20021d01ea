"""The classes and functions of Keras and TensorFlow that a Keras file may name; anything else is code.

All of them compute with tensors. Left out are those that open files or run other programs: TFSMLayer,
TorchModuleWrapper, JaxLayer, FlaxLayer and feature columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_bundle.bundle.graph_scan.allowed_operations import COMPUTING

_LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
    AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D
    AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization Bidirectional CategoryEncoding
    CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
    Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose
    Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot
    Dropout EinsumDense ELU Embedding Equalization Flatten GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
    GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D
    GlobalMaxPooling3D GroupNormalization GroupQueryAttention GRU GRUCell HashedCrossing Hashing Identity
    InputLayer IntegerLookup LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D LSTM
    LSTMCell Masking Maximum MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D
    MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization Permute Pipeline PReLU
    RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight
    RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
    RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling
    Reshape Resizing ReversibleEmbedding RMSNormalization RNN SeparableConv1D SeparableConv2D
    SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells
    STFTSpectrogram StringLookup Subtract TextVectorization ThresholdedReLU TimeDistributed
    UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
_INITIALIZERS = """
    Constant constant glorot_normal glorot_uniform GlorotNormal GlorotUniform he_normal he_uniform
    HeNormal HeUniform Identity identity IdentityInitializer lecun_normal lecun_uniform LecunNormal
    LecunUniform Ones ones Orthogonal orthogonal OrthogonalInitializer random_normal random_uniform
    RandomNormal RandomUniform STFT stft STFTInitializer truncated_normal TruncatedNormal variance_scaling
    VarianceScaling Zeros zeros
"""
_REGULARIZERS = """
    L1 l1 l1_l2 L1L2 L2 l2 orthogonal_regularizer OrthogonalRegularizer
"""
_CONSTRAINTS = """
    max_norm MaxNorm min_max_norm MinMaxNorm non_neg NonNeg radial_constraint RadialConstraint unit_norm
    UnitNorm
"""
_ACTIVATIONS = """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu
    linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign
    sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
"""
# Keras 3 stores calls of its functions between layers as classes of these modules.
_OPERATIONS = {
    "numpy": """
    Absolute Add All AllClose Amax Amin Angle Any Append Arange Arccos Arccosh Arcsin Arcsinh Arctan
    Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit Average Bincount BitwiseAnd
    BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo Cbrt Ceil
    Clip Concatenate Conjugate Copy Corrcoef Correlate Cos Cosh CountNonzero Cross Cumprod Cumsum
    Deg2rad Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan Dot Dsplit Dstack Einsum EmptyLike
    Equal Exp Exp2 ExpandDims Expm1 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Full FullLike
    Gcd Geomspace GetItem Greater GreaterEqual Heaviside Histogram Hsplit Hstack Hypot I0 Imag Inner
    Isclose Isfinite IsIn Isinf Isnan Isneginf Isposinf Isreal Kron Lcm Ldexp LeftShift Less LessEqual
    Linspace Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor Logspace
    Matmul Max Maximum Mean Median Meshgrid Min Minimum Mod Moveaxis Multiply Nanargmax Nanargmin
    Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod Nanquantile Nanstd Nansum
    NanToNum Nanvar Ndim Negative Nextafter Nonzero NotEqual OnesLike Outer Pad Percentile Power Prod Ptp
    Quantile Rad2deg Ravel Real Reciprocal Repeat Reshape RightShift Roll Rot90 Round SearchSorted Select
    Sign Signbit Sin Sinc Sinh Size Slogdet Sort Split Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes
    Take TakeAlongAxis Tan Tanh Tensordot Tile Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unique
    UnravelIndex Vander Var Vdot View Vsplit Vstack Where ZerosLike
""",
    "math": """
    CDist Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 InTopK IRFFT ISTFT Logdet Logsumexp RFFT Rsqrt
    SegmentMax SegmentMin SegmentProd SegmentSum STFT TopK ViewAsComplex ViewAsReal
""",
    "nn": """
    AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm BinaryCrossentropy CategoricalCrossentropy
    Celu Conv ConvTranspose CTCDecode CTCLoss DepthToSpace DepthwiseConv DotProductAttention Elu Fold Gelu
    Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments
    MultiHot Normalize OneHot Polar PSNR Relu Relu6 RMSNorm Selu SeparableConv Sigmoid Silu Softmax
    Softplus SoftShrink Softsign SpaceToDepth SparseCategoricalCrossentropy Sparsemax SparsePlus
    SparseSigmoid Squareplus TanhShrink Threshold Unfold
""",
    "core": """
    Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient Unstack
""",
    "linalg": """
    Cholesky CholeskyInverse Det Eig Eigh Inv Lstsq LuFactor MatrixRank Norm Pinv Qr SVD Solve SolveTriangular
""",
}
# Keras 2 stores calls of TensorFlow's functions by name; whether with compat.v1 depends on the version.
_FUNCTIONS = """
    __operators__.add __operators__.eq __operators__.getitem __operators__.ne argsort broadcast_to cast
    clip_by_norm clip_by_value compat.v1.boolean_mask compat.v1.floor_div compat.v1.gather
    compat.v1.gather_nd compat.v1.math.scalar_mul compat.v1.norm compat.v1.pad compat.v1.shape
    compat.v1.size compat.v1.squeeze compat.v1.strings.length compat.v1.transpose concat convert_to_tensor
    einsum expand_dims fill identity linalg.band_part linalg.diag linalg.diag_part linalg.matmul
    linalg.matrix_transpose math.abs math.add math.add_n math.argmax math.argmin math.ceil math.cos
    math.count_nonzero math.cumprod math.cumsum math.divide_no_nan math.equal math.erf math.exp math.floor
    math.floormod math.greater math.greater_equal math.is_finite math.is_nan math.l2_normalize math.less
    math.less_equal math.log math.log1p math.logical_and math.logical_not math.logical_or math.maximum
    math.minimum math.multiply math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal
    math.reciprocal_no_nan math.reduce_all math.reduce_any math.reduce_logsumexp math.reduce_max
    math.reduce_mean math.reduce_min math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance
    math.round math.rsqrt math.sigmoid math.sign math.sin math.softplus math.sqrt math.square
    math.squared_difference math.subtract math.tanh math.top_k math.truediv nn.avg_pool1d nn.bias_add
    nn.elu nn.gelu nn.leaky_relu nn.log_softmax nn.max_pool1d nn.relu nn.relu6 nn.selu nn.silu nn.softmax
    nn.softsign one_hot ones_like range rank repeat reshape reverse roll searchsorted sequence_mask slice
    sort split stack stop_gradient strings.as_string strings.bytes_split strings.join strings.length
    strings.lower strings.reduce_join strings.regex_full_match strings.regex_replace strings.split
    strings.strip strings.substr strings.to_hash_bucket_fast strings.to_hash_bucket_strong
    strings.to_number strings.unicode_decode strings.unicode_split strings.upper tensor_scatter_nd_update
    tensordot tile unstack where zeros_like
"""
_LISTS = {
    "layers": f"{_LAYERS} Lambda",
    "initializers": _INITIALIZERS,
    "regularizers": _REGULARIZERS,
    "constraints": _CONSTRAINTS,
    "activations": _ACTIVATIONS,
    "functions": _FUNCTIONS,
}
_RAGGED_METHODS = ("to_tensor", "row_lengths", "bounding_shape")
_RAGGED_PROPERTIES = ("values", "flat_values")
_MODELS = {
    "Functional": ("engine.functional", "models.functional"),
    "Sequential": ("engine.sequential", "models.sequential"),
    "Model": ("engine.training", "models.model"),
}
# Markers of data: numbers, tuples, references to a layer's output.
_DATA = (
    "TensorShape",
    "__bytes__",
    "__ellipsis__",
    "__keras_tensor__",
    "__numpy__",
    "__slice__",
    "__tensor__",
    "__tuple__",
)
_FUNCTION_LAYERS = (
    "TFOpLambda",
    "SlicingOpLambda",
    "InstanceMethod",
    "InstanceProperty",
    "TensorFlowOpLayer",
)
_V1 = "compat.v1."
_ROOTS = ("keras", "tf_keras", "keras.src", "tf_keras.src")


@dataclass(frozen=True)
class _Entry:
    """Where a file may say that a class is from; without a module Keras looks it up by its name."""

    modules: frozenset[str]

    def is_named_by(self, name: str, module: object, registered_name: object) -> bool:
        is_known = module is None or (isinstance(module, str) and module in self.modules)
        return is_known and registered_name in (None, name)


def _in_modules(names: str, *modules: str, roots: tuple[str, ...] = _ROOTS) -> dict[str, _Entry]:
    entry = _Entry(frozenset(f"{root}.{module}".strip(".") for root in roots for module in modules))
    return dict.fromkeys(names.split(), entry)


def _merged(*groups: dict[str, _Entry]) -> dict[str, _Entry]:
    """Joins groups; a name in several of them, such as Add, may be from any of their modules."""
    merged: dict[str, _Entry] = {}
    for group in groups:
        for name, entry in group.items():
            known = merged.get(name, _Entry(frozenset()))
            merged[name] = _Entry(known.modules | entry.modules)
    return merged


_CLASSES = _merged(
    _in_modules(_LISTS["layers"], "layers", "layers.experimental", "layers.experimental.preprocessing"),
    _in_modules(" ".join(_FUNCTION_LAYERS), "layers", "layers.core.tf_op_layer", "engine.base_layer"),
    _in_modules(_INITIALIZERS, "initializers"),
    _in_modules(_REGULARIZERS, "regularizers"),
    _in_modules(_CONSTRAINTS, "constraints"),
    _in_modules("DTypePolicy FloatDTypePolicy Policy", "", "dtype_policies", "mixed_precision"),
    *(_in_modules(names, f"ops.{module}") for module, names in _OPERATIONS.items()),
    *(_in_modules(name, "", "models", *modules, "engine") for name, modules in _MODELS.items()),
    dict.fromkeys(_DATA, _Entry(frozenset(("builtins",)))),
)
_ACTIVATION = _in_modules(_ACTIVATIONS, "activations")
# By the end of a setting's name: what its text may be.
_NAMED_BY_SETTING = {
    "activation": frozenset(_ACTIVATION) | frozenset(_LAYERS.split()),
    "initializer": frozenset(_INITIALIZERS.split()),
    "regularizer": frozenset(_REGULARIZERS.split()),
    "constraint": frozenset(_CONSTRAINTS.split()),
}


def listed_names(kind: str) -> tuple[str, ...]:
    """Returns the list of a kind: layers, initializers, regularizers, constraints, activations, functions.

    ``ops.numpy`` and other modules of ``keras.ops`` are kinds, too.
    """
    return tuple((_LISTS | {f"ops.{name}": names for name, names in _OPERATIONS.items()})[kind].split())


def is_keras_class(name: str, module: object, registered_name: object) -> bool:
    """Whether a file names a class of the list, from its own module, under its own name."""
    entry = _CLASSES.get(name)
    return entry is not None and entry.is_named_by(name, module, registered_name)


def is_keras_function(name: str, module: object, registered_name: object) -> bool:
    """Whether a file names an activation of the list, from its own module, under its own name."""
    entry = _ACTIVATION.get(name)
    if entry is None or registered_name not in (None, "function", name):
        return False
    return module == "builtins" or entry.is_named_by(name, module, None)


def allowed_texts(setting: str) -> frozenset[str] | None:
    """Returns the names that a setting of a layer may have as its text; None if it names no function."""
    return _NAMED_BY_SETTING.get(setting.rpartition("_")[2])


def called_function(class_name: str, config: dict[str, object]) -> tuple[str, bool] | None:
    """Returns the function of TensorFlow that a layer calls, and whether it is on the list.

    None for a layer that is no such call.
    """
    if class_name in ("TFOpLambda", "SlicingOpLambda"):
        name = str(config.get("function"))
        return f"tf.{name}", name.removeprefix(_V1) in _BARE
    if class_name in ("InstanceMethod", "InstanceProperty"):
        name = str(config.get("attr_name"))
        names = _RAGGED_METHODS if class_name == "InstanceMethod" else _RAGGED_PROPERTIES
        return f"{name} of a tensor", name in names
    if class_name == "TensorFlowOpLayer":
        node = config.get("node_def")
        name = str(node.get("op")) if isinstance(node, dict) else "an operation in packed form"
        return name, name in COMPUTING
    return None


_BARE = frozenset(name.removeprefix(_V1) for name in _FUNCTIONS.split())
