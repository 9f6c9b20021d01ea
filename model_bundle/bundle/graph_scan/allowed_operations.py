"""The operations that a model may use: those that only affect its own tensors, variables and tables.

Anything not listed here is rejected, known or not, unless it is allowed by name when the bundle is built.
"""

from __future__ import annotations

_ARRAYS = """
    BatchMatrixBandPart BatchMatrixDiag BatchMatrixDiagPart BatchMatrixSetDiag BatchToSpace BatchToSpaceND
    Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo CheckNumerics CheckNumericsV2
    CompositeTensorVariantFromComponents CompositeTensorVariantToComponents Concat ConcatOffset ConcatV2
    ConjugateTranspose Const DeepCopy DepthToSpace Dequantize Diag DiagPart EditDistance Empty EnsureShape
    ExpandDims ExtractImagePatches ExtractVolumePatches FakeQuantWithMinMaxArgs
    FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsGradient
    FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxVarsPerChannelGradient Fill Fingerprint Gather
    GatherNd GatherV2 GuaranteeConst Identity IdentityN InplaceAdd InplaceSub InplaceUpdate
    InvertPermutation ListDiff LowerBound MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
    MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad
    MirrorPadGrad OneHot OnesLike OptionalFromValue OptionalGetValue OptionalHasValue OptionalNone Pack
    Pad PadV2 ParallelConcat Placeholder PlaceholderV2 PlaceholderWithDefault PreventGradient
    QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
    QuantizeAndDequantizeV4Grad QuantizeV2 QuantizedConcat QuantizedInstanceNorm QuantizedReshape Rank
    RefIdentity Reshape ResourceStridedSliceAssign Reverse ReverseSequence ReverseV2 Roll ScatterNd
    ScatterNdNonAliasingAdd Shape ShapeN Size Slice Snapshot SpaceToBatch SpaceToBatchND SpaceToDepth
    Split SplitV Squeeze StopGradient StridedSlice StridedSliceAssign StridedSliceGrad TensorScatterAdd
    TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile
    TileGrad Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex UpperBound
    Where ZerosLike
"""
_MATH = """
    Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh
    Atan Atan2 Atanh BatchFFT BatchFFT2D BatchFFT3D BatchIFFT BatchIFFT2D BatchIFFT3D BatchMatMul
    BatchMatMulV2 BatchMatMulV3 BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e
    BesselK1 BesselK1e BesselY0 BesselY1 Betainc Bincount BitwiseAnd BitwiseOr BitwiseXor Bucketize Cast
    Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp Dawsn
    DenseBincount DenseCountSparseOutput DenseToDenseSetOperation DenseToSparseSetOperation Digamma Div
    DivNoNan Equal Erf Erfc Erfinv EuclideanNorm Exp Expint Expm1 FFT FFT2D FFT3D FFTND Floor FloorDiv
    FloorMod FresnelCos FresnelSin Greater GreaterEqual HistogramFixedWidth IFFT IFFT2D IFFT3D IFFTND
    IRFFT IRFFT2D IRFFT3D IRFFTND Igamma IgammaGradA Igammac Imag Inv InvGrad Invert IsFinite IsInf IsNan
    LeftShift Less LessEqual Lgamma LinSpace Log Log1p LogicalAnd LogicalNot LogicalOr MatMul Max Maximum
    Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Polygamma PopulationCount Pow Prod
    QuantizeDownAndShrinkRange QuantizedAdd QuantizedMatMul QuantizedMul RFFT RFFT2D RFFT3D RFFTND
    RaggedBincount RaggedCountSparseOutput Range Real RealDiv Reciprocal ReciprocalGrad
    RequantizationRange RequantizationRangePerChannel Requantize RequantizePerChannel RightShift Rint
    Round Rsqrt RsqrtGrad SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd
    SegmentProdV2 SegmentSum SegmentSumV2 Select SelectV2 SetSize Sigmoid SigmoidGrad Sign Sin Sinh
    SobolSample SparseBincount SparseCountSparseOutput SparseMatMul SparseSegmentMean
    SparseSegmentMeanGrad SparseSegmentMeanGradV2 SparseSegmentMeanWithNumSegments SparseSegmentSqrtN
    SparseSegmentSqrtNGrad SparseSegmentSqrtNGradV2 SparseSegmentSqrtNWithNumSegments SparseSegmentSum
    SparseSegmentSumGrad SparseSegmentSumGradV2 SparseSegmentSumWithNumSegments SparseToSparseSetOperation
    Spence Sqrt SqrtGrad Square SquaredDifference Sub Sum Tan Tanh TanhGrad TruncateDiv TruncateMod
    UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta
"""
_LINEAR_ALGEBRA = """
    BandedTriangularSolve BatchCholesky BatchCholeskyGrad BatchMatrixDeterminant BatchMatrixInverse
    BatchMatrixSolve BatchMatrixSolveLs BatchMatrixTriangularSolve BatchSelfAdjointEig
    BatchSelfAdjointEigV2 BatchSvd CSRSparseMatrixComponents CSRSparseMatrixToDense
    CSRSparseMatrixToSparseTensor Cholesky CholeskyGrad DenseToCSRSparseMatrix Eig Einsum
    LogMatrixDeterminant Lu MatrixDeterminant MatrixExponential MatrixInverse MatrixLogarithm MatrixSolve
    MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve Qr SelfAdjointEig SelfAdjointEigV2
    SparseMatrixAdd SparseMatrixMatMul SparseMatrixMul SparseMatrixNNZ SparseMatrixOrderingAMD
    SparseMatrixSoftmax SparseMatrixSoftmaxGrad SparseMatrixSparseCholesky SparseMatrixSparseMatMul
    SparseMatrixTranspose SparseMatrixZeros SparseTensorToCSRSparseMatrix Svd TridiagonalMatMul
    TridiagonalSolve
"""
_NETWORKS = """
    AllCandidateSampler ApproxTopK AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad
    BatchNormWithGlobalNormalization BatchNormWithGlobalNormalizationGrad BiasAdd BiasAddGrad BiasAddV1
    BlockLSTM BlockLSTMGrad BlockLSTMGradV2 BlockLSTMV2 CTCBeamSearchDecoder CTCGreedyDecoder CTCLoss
    CTCLossV2 ComputeAccidentalHits Conv Conv2D Conv2DBackpropFilter Conv2DBackpropFilterV2
    Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D Conv3DBackpropFilter Conv3DBackpropFilterV2
    Conv3DBackpropInput Conv3DBackpropInputV2 CudnnRNN CudnnRNNBackprop CudnnRNNBackpropV2
    CudnnRNNBackpropV3 CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize
    CudnnRNNParamsToCanonical CudnnRNNParamsToCanonicalV2 CudnnRNNV2 CudnnRNNV3 DataFormatDimMap
    DataFormatVecPermute DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
    DepthwiseConv2dNativeBackpropInput Dilation2D Dilation2DBackpropFilter Dilation2DBackpropInput Elu
    EluGrad FractionalAvgPool FractionalAvgPoolGrad FractionalMaxPool FractionalMaxPoolGrad FusedBatchNorm
    FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3
    FusedPadConv2D FusedResizeAndPadConv2D GRUBlockCell GRUBlockCellGrad InTopK InTopKV2
    IsotonicRegression L2Loss LRN LRNGrad LSTMBlockCell LSTMBlockCellGrad LeakyRelu LeakyReluGrad
    LearnedUnigramCandidateSampler LogSoftmax LogUniformCandidateSampler MaxPool MaxPool3D MaxPool3DGrad
    MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad MaxPoolGradGradV2 MaxPoolGradGradWithArgmax
    MaxPoolGradV2 MaxPoolGradWithArgmax MaxPoolV2 MaxPoolWithArgmax NthElement QuantizedAvgPool
    QuantizedBatchNormWithGlobalNormalization QuantizedBiasAdd QuantizedConv2D QuantizedConv2DAndRelu
    QuantizedConv2DAndReluAndRequantize QuantizedConv2DAndRequantize QuantizedConv2DPerChannel
    QuantizedConv2DWithBias QuantizedConv2DWithBiasAndRelu QuantizedConv2DWithBiasAndReluAndRequantize
    QuantizedConv2DWithBiasAndRequantize QuantizedConv2DWithBiasSignedSumAndReluAndRequantize
    QuantizedConv2DWithBiasSumAndRelu QuantizedConv2DWithBiasSumAndReluAndRequantize
    QuantizedDepthwiseConv2D QuantizedDepthwiseConv2DWithBias QuantizedDepthwiseConv2DWithBiasAndRelu
    QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize QuantizedMatMulWithBias
    QuantizedMatMulWithBiasAndDequantize QuantizedMatMulWithBiasAndRelu
    QuantizedMatMulWithBiasAndReluAndRequantize QuantizedMatMulWithBiasAndRequantize QuantizedMaxPool
    QuantizedRelu QuantizedRelu6 QuantizedReluX Relu Relu6 Relu6Grad ReluGrad Selu SeluGrad Softmax
    SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad
    SparseSoftmaxCrossEntropyWithLogits ThreadUnsafeUnigramCandidateSampler TopK TopKV2
    UniformCandidateSampler UniformDequantize UniformQuantize UniformQuantizedAdd
    UniformQuantizedClipByValue UniformQuantizedConvolution UniformQuantizedConvolutionHybrid
    UniformQuantizedDot UniformQuantizedDotHybrid UniformRequantize _QuantizedMatMul
"""
_RANDOM = """
    Multinomial NonDeterministicInts ParameterizedTruncatedNormal RandomGamma RandomGammaGrad
    RandomIndexShuffle RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform
    RandomUniformInt RngReadAndSkip RngSkip StatefulRandomBinomial StatefulStandardNormal
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt StatelessMultinomial StatelessParameterizedTruncatedNormal StatelessRandomBinomial
    StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomPoisson
    StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2
    StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle
    StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal
"""
_SPARSE_AND_RAGGED = """
    AddManySparseToTensorsMap AddSparseToTensorsMap DeserializeManySparse DeserializeSparse RaggedCross
    RaggedFillEmptyRows RaggedFillEmptyRowsGrad RaggedGather RaggedRange RaggedTensorFromVariant
    RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant RaggedTensorToVariantGradient
    SerializeManySparse SerializeSparse SparseAdd SparseAddGrad SparseConcat SparseCross SparseCrossHashed
    SparseCrossV2 SparseDenseCwiseAdd SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows
    SparseFillEmptyRowsGrad SparseReduceMax SparseReduceMaxSparse SparseReduceSum SparseReduceSumSparse
    SparseReorder SparseReshape SparseSlice SparseSliceGrad SparseSoftmax SparseSparseMaximum
    SparseSparseMinimum SparseSplit SparseTensorDenseAdd SparseTensorDenseMatMul SparseToDense
    TakeManySparseFromTensorsMap
"""
_STRINGS = """
    AsString DecodeBase64 DecodeCSV DecodeCompressed DecodeJSONExample DecodePaddedRaw DecodeRaw
    EncodeBase64 ParseExample ParseExampleV2 ParseSequenceExample ParseSequenceExampleV2
    ParseSingleExample ParseSingleSequenceExample ParseTensor ReduceJoin RegexFullMatch RegexReplace
    SerializeTensor ShardedFilename ShardedFilespec StaticRegexFullMatch StaticRegexReplace StringFormat
    StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
    StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr
    UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript UnicodeTranscode
    UnsortedSegmentJoin
"""
_TABLES = """
    AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
    AnonymousMutableHashTableOfTensors HashTable HashTableV2 InitializeTable InitializeTableFromTextFile
    InitializeTableFromTextFileV2 InitializeTableV2 LookupTableExport LookupTableExportV2 LookupTableFind
    LookupTableFindV2 LookupTableImport LookupTableImportV2 LookupTableInsert LookupTableInsertV2
    LookupTableRemoveV2 LookupTableSize LookupTableSizeV2 MutableDenseHashTable MutableDenseHashTableV2
    MutableHashTable MutableHashTableOfTensors MutableHashTableOfTensorsV2 MutableHashTableV2
"""
_CONTROL_FLOW = """
    Assert Case ControlTrigger DeviceIndex Enter Exit FakeParam For HistogramSummary If LoopCond Merge
    MergeSummary NextIteration NoOp PartitionedCall Print PrintV2 RefEnter RefExit RefMerge
    RefNextIteration RefSelect RefSwitch ScalarSummary StatefulPartitionedCall StatelessCase StatelessIf
    StatelessWhile Switch SymbolicGradient TensorSummary TensorSummaryV2 Timestamp ToBool While
"""
_LISTS = """
    DynamicPartition DynamicStitch EmptyTensorList EmptyTensorMap ParallelDynamicStitch Stack StackClose
    StackCloseV2 StackPop StackPopV2 StackPush StackPushV2 StackV2 TensorArray TensorArrayClose
    TensorArrayCloseV2 TensorArrayCloseV3 TensorArrayConcat TensorArrayConcatV2 TensorArrayConcatV3
    TensorArrayGather TensorArrayGatherV2 TensorArrayGatherV3 TensorArrayGrad TensorArrayGradV2
    TensorArrayGradV3 TensorArrayGradWithShape TensorArrayPack TensorArrayRead TensorArrayReadV2
    TensorArrayReadV3 TensorArrayScatter TensorArrayScatterV2 TensorArrayScatterV3 TensorArraySize
    TensorArraySizeV2 TensorArraySizeV3 TensorArraySplit TensorArraySplitV2 TensorArraySplitV3
    TensorArrayUnpack TensorArrayV2 TensorArrayV3 TensorArrayWrite TensorArrayWriteV2 TensorArrayWriteV3
    TensorListConcat TensorListConcatLists TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack
    TensorListPushBackBatch TensorListReserve TensorListResize TensorListScatter
    TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit
    TensorListStack TensorMapErase TensorMapHasKey TensorMapInsert TensorMapLookup TensorMapSize
    TensorMapStackKeys
"""
_VARIABLES = """
    Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp ConsumeMutexLock
    CountUpTo DestroyResourceOp DestroyTemporaryVariable DisableCopyOnRead IsVariableInitialized MutexLock
    MutexV2 ReadVariableOp ResourceCountUpTo ResourceGather ResourceGatherNd ResourceScatterAdd
    ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd
    ResourceScatterNdMax ResourceScatterNdMin ResourceScatterNdSub ResourceScatterNdUpdate
    ResourceScatterSub ResourceScatterUpdate ScatterAdd ScatterDiv ScatterMax ScatterMin ScatterMul
    ScatterNdAdd ScatterNdMax ScatterNdMin ScatterNdSub ScatterNdUpdate ScatterSub ScatterUpdate
    TemporaryVariable VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2
"""
_TRAINING = """
    ApplyAdaMax ApplyAdadelta ApplyAdagrad ApplyAdagradDA ApplyAdagradV2 ApplyAdam ApplyAddSign
    ApplyCenteredRMSProp ApplyFtrl ApplyFtrlV2 ApplyGradientDescent ApplyMomentum ApplyPowerSign
    ApplyProximalAdagrad ApplyProximalGradientDescent ApplyRMSProp ResourceApplyAdaMax
    ResourceApplyAdadelta ResourceApplyAdagrad ResourceApplyAdagradDA ResourceApplyAdagradV2
    ResourceApplyAdam ResourceApplyAdamWithAmsgrad ResourceApplyAddSign ResourceApplyCenteredRMSProp
    ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent ResourceApplyKerasMomentum
    ResourceApplyMomentum ResourceApplyPowerSign ResourceApplyProximalAdagrad
    ResourceApplyProximalGradientDescent ResourceApplyRMSProp ResourceSparseApplyAdadelta
    ResourceSparseApplyAdagrad ResourceSparseApplyAdagradDA ResourceSparseApplyAdagradV2
    ResourceSparseApplyCenteredRMSProp ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2
    ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum ResourceSparseApplyProximalAdagrad
    ResourceSparseApplyProximalGradientDescent ResourceSparseApplyRMSProp SparseApplyAdadelta
    SparseApplyAdagrad SparseApplyAdagradDA SparseApplyAdagradV2 SparseApplyCenteredRMSProp
    SparseApplyFtrl SparseApplyFtrlV2 SparseApplyMomentum SparseApplyProximalAdagrad
    SparseApplyProximalGradientDescent SparseApplyRMSProp
"""

# Read from an iterator that is passed in, as layers of Keras 2 that learn a vocabulary do. Operations that
# create an iterator, over files or anything else, are not allowed.
_TAKING = "IteratorGetNext IteratorGetNextAsOptional IteratorGetNextSync"
# What tensorflow_text 2.21 registers, in addition to everything under this prefix; a test compares.
TEXT_PREFIX = "TFText>"
_TEXT = """
    CaseFoldUTF8 ConstrainedSequence FastBertNormalize FastWordpieceTokenizeWithOffsets FindSourceOffsets
    MaxSpanningTree NormalizeUTF8 NormalizeUTF8WithOffsetsMap PhraseTokenize RegexSplitWithOffsets RougeL
    SentenceFragments SentenceFragmentsV2 SentencepieceDetokenizeOp SentencepieceIdToStringOp
    SentencepieceOp SentencepieceStringToIdOp SentencepieceTokenizeOp SentencepieceTokenizeWithOffsetsOp
    SentencepieceVocabSizeOp SplitMergeTokenizeWithOffsets TokenizerFromLogits
    UnicodeScriptTokenizeWithOffsets WhitespaceTokenizeWithOffsets WordpieceTokenizeWithOffsets
"""
TEXT_OPS = frozenset(_TEXT.split())

ALLOWED = TEXT_OPS.union(
    *(
        group.split()
        for group in (
            _ARRAYS,
            _MATH,
            _LINEAR_ALGEBRA,
            _NETWORKS,
            _RANDOM,
            _SPARSE_AND_RAGGED,
            _STRINGS,
            _TABLES,
            _CONTROL_FLOW,
            _LISTS,
            _VARIABLES,
            _TRAINING,
            _TAKING,
        )
    )
)
# Those of them that call functions.
_CALLING = """
    Case For If PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile
    SymbolicGradient While
"""
CALLING = frozenset(_CALLING.split())
# Those of them that compute with numbers and texts, without state.
COMPUTING = frozenset((_ARRAYS + _MATH + _LINEAR_ALGEBRA + _STRINGS).split())
# Operations that restore and save a checkpoint: allowed for that purpose only.
RESTORING = frozenset(("Restore", "RestoreSlice", "RestoreV2"))
SAVING = RESTORING | {"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"}

# The reasons for those that models are likely to contain.
_REFUSED = {
    "reads files": "ReadFile MatchingFiles ReaderRead ReaderReadV2 TextLineReader TextLineReaderV2 "
    "TFRecordReader TFRecordReaderV2 WholeFileReader WholeFileReaderV2 ImmutableConst DecodeProtoV2 "
    "EncodeProto FixedUnigramCandidateSampler GenerateVocabRemapping LoadAndRemapMatrix Restore RestoreSlice "
    "RestoreV2",
    "writes files": "WriteFile Save SaveSlices SaveV2 MergeV2Checkpoints DumpTensor CreateSummaryFileWriter "
    "WriteSummary WriteScalarSummary WriteHistogramSummary",
    "reads data sets": "Iterator IteratorV2 AnonymousIteratorV3 MakeIterator OneShotIterator TextLineDataset "
    "TFRecordDataset TFRecordDatasetV2 MatchingFilesDataset InitializeTableFromDataset DatasetFromGraph",
    "runs Python": "PyFunc PyFuncStateless EagerPyFunc",
    "talks to other machines": "RemoteCall Send Recv RpcCall RpcClient RpcServer DataServiceDatasetV4",
    "ends the process": "Abort",
    "dumps its input": "DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNumericSummaryV2",
    "runs a program that it holds as data": "XlaCallModule MlirPassthroughOp TRTEngineOp",
}
_OUTSIDE = ("reads files", "writes files", "reads data sets", "runs Python", "talks to other machines")
_REASONS = {name: reason for reason, names in _REFUSED.items() for name in names.split()}


def is_text_op(name: str) -> bool:
    """Whether an operation is one of tensorflow_text's."""
    return name.startswith(TEXT_PREFIX) or name in TEXT_OPS


def reaches_outside(name: str) -> bool:
    """Whether an operation is known to need files, the network or Python, so that it fails in a sandbox."""
    return _REASONS.get(name) in _OUTSIDE


def why_refused(name: str) -> str:
    """Returns what an operation that is not allowed does, where that is known."""
    return _REASONS.get(name, "is not on the list of operations that stay within the model")
