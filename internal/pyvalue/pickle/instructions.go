package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

// The instructions that Python writes for plain values in protocols 4 and 5, with
// CPython's names.
const (
	opMark            = '('
	opStop            = '.'
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opNone            = 'N'
	opReduce          = 'R'
	opBinUnicode      = 'X'
	opAppend          = 'a'
	opBuild           = 'b'
	opEmptyDict       = '}'
	opAppends         = 'e'
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opEmptyList       = ']'
	opSetItem         = 's'
	opTuple           = 't'
	opEmptyTuple      = ')'
	opSetItems        = 'u'
	opBinFloat        = 'G'
	opBinBytes        = 'B'
	opShortBinBytes   = 'C'
	opProto           = 0x80
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opNewObj          = 0x81
	opNewTrue         = 0x88
	opNewFalse        = 0x89
	opLong1           = 0x8a
	opLong4           = 0x8b
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opBinBytes8       = 0x8e
	opEmptySet        = 0x8f
	opAddItems        = 0x90
	opFrozenSet       = 0x91
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
	opByteArray8      = 0x96 // only in protocol 5
)

// operandSizes holds the size of the number that follows each instruction, in bytes. The number is
// a value, a length, or an index in the memo.
var operandSizes = [256]int{
	opBinInt1: 1, opBinInt2: 2, opBinInt: 4, opLong1: 1, opLong4: 4,
	opShortBinUnicode: 1, opBinUnicode: 4, opBinUnicode8: 8,
	opShortBinBytes: 1, opBinBytes: 4, opBinBytes8: 8, opByteArray8: 8,
	opBinGet: 1, opLongBinGet: 4, opFrame: 8,
}

// refusedOpcodes holds a description, for error messages, of each instruction that plain values
// never need.
var refusedOpcodes = map[byte]string{
	'0':      "POP (a tuple that contains itself)",
	'1':      "POP_MARK (a tuple that contains itself)",
	'P':      "PERSID (an object stored elsewhere)",
	'Q':      "BINPERSID (an object stored elsewhere)",
	opBuild:  "BUILD (the state of an object)",
	'c':      "GLOBAL (a class or function)",
	'i':      "INST (an object of a class)",
	'o':      "OBJ (an object of a class)",
	opNewObj: "NEWOBJ (an object of a class)",
	0x82:     "EXT1 (a registered class or function)",
	0x83:     "EXT2 (a registered class or function)",
	0x84:     "EXT4 (a registered class or function)",
	0x92:     "NEWOBJ_EX (an object of a class)",
	0x97:     "NEXT_BUFFER (a buffer stored elsewhere)",
	0x98:     "READONLY_BUFFER (a buffer stored elsewhere)",
}

func refusedError(op byte) error {
	if description, isListed := refusedOpcodes[op]; isListed {
		return fmt.Errorf("instruction %s: only plain values can be read", description)
	}
	return fmt.Errorf("%#02x is not a pickle instruction in protocol 4 or 5", op)
}

func (r *reader) readLeaf(op byte) (any, error) {
	switch op {
	case opBinInt1, opBinInt2:
		n, err := r.number(op)
		return int64(n), err
	case opBinInt:
		n, err := r.number(op)
		return int64(int32(n)), err
	case opLong1, opLong4:
		return r.readLong(op)
	case opBinFloat:
		b, err := r.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case opShortBinUnicode, opBinUnicode, opBinUnicode8:
		return r.readText(op)
	case opShortBinBytes, opBinBytes, opBinBytes8:
		return r.readBytes(op)
	case opByteArray8:
		b, err := r.readBytes(op)
		return pyvalue.ByteArray(b), err
	}
	return nil, refusedError(op)
}

// readSized reads a length and returns the bytes that follow it. They share the input's memory.
func (r *reader) readSized(op byte) ([]byte, error) {
	size, err := r.number(op)
	if err != nil {
		return nil, err
	}
	return r.take(size)
}

func (r *reader) readBytes(op byte) ([]byte, error) {
	b, err := r.readSized(op)
	return append(make([]byte, 0, len(b)), b...), err
}

func (r *reader) readText(op byte) (any, error) {
	b, err := r.readSized(op)
	if err != nil {
		return nil, err
	}
	s, isNew := r.texts.Of(b)
	if isNew && !pyvalue.ValidText(s.(string)) {
		return nil, fmt.Errorf("invalid UTF-8 in a str: %.40q", b)
	}
	return s, nil
}

// readLong reads an integer: little-endian, in two's complement.
func (r *reader) readLong(op byte) (any, error) {
	b, err := r.readSized(op)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return int64(0), nil
	}
	isNegative := b[len(b)-1] >= 0x80
	if len(b) <= 8 {
		var v uint64
		if isNegative {
			v = math.MaxUint64
		}
		for i := len(b) - 1; i >= 0; i-- {
			v = v<<8 | uint64(b[i])
		}
		return int64(v), nil
	}
	magnitude := slices.Clone(b)
	slices.Reverse(magnitude)
	if !isNegative {
		return pyvalue.Integer(new(big.Int).SetBytes(magnitude)), nil
	}
	for i := range magnitude {
		magnitude[i] = ^magnitude[i]
	}
	v := new(big.Int).SetBytes(magnitude)
	return pyvalue.Integer(v.Not(v)), nil
}

// bytearrayFunction stands for bytearray, the only function that applyReduce really calls.
type bytearrayFunction struct{}

func (r *reader) readGlobal() error {
	names, err := r.popItems(2)
	if err != nil {
		return err
	}
	module, ok := names[0].(string)
	name, isName := names[1].(string)
	switch {
	case !ok || !isName:
		return errors.New("STACK_GLOBAL without a name")
	case r.isAllowed != nil && r.isAllowed(module, name):
		r.push(Global{module, name})
		return nil
	case module != "builtins" || name != "bytearray":
		return fmt.Errorf("cannot read the class or function %.60q from the module %.60q: only plain values can be read", name, module)
	}
	r.push(bytearrayFunction{})
	return nil
}

// applyReduce creates a bytearray, or an Object that describes a call to another class or function.
func (r *reader) applyReduce() error {
	call, err := r.popItems(2)
	if err != nil {
		return err
	}
	_, isBytearray := call[0].(bytearrayFunction)
	function, isNode := call[0].(*node)
	if _, isGlobal := call[0].(Global); !isBytearray && !isGlobal && (!isNode || function.kind != object) {
		return errors.New("REDUCE (a call) of something that is not a function: only plain values can be read")
	}
	arguments, isNode := call[1].(*node)
	if !isNode || arguments.kind != tuple {
		return errors.New("REDUCE (a call) without a tuple of arguments")
	}
	if !isBytearray {
		r.push(&node{kind: object, items: slices.Clone(call)})
		return nil
	}
	var content []byte
	if len(arguments.items) > 0 {
		content, isBytearray = arguments.items[0].([]byte)
	}
	if !isBytearray || len(arguments.items) > 1 {
		return errors.New("REDUCE (a call) with arguments that bytearray does not accept")
	}
	// Unlike Python's own pickles, a hostile pickle could copy a large value again and again.
	r.copied += len(content)
	if r.copied > len(r.data) {
		return errors.New("the calls to bytearray copy more bytes than the pickle has")
	}
	r.push(pyvalue.ByteArray(append([]byte{}, content...)))
	return nil
}
