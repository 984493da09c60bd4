package pickle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

var (
	errTruncated = errors.New("the pickle ends too early")
	errUnderflow = errors.New("the instruction needs more elements than the stack has")
)

// Decode returns the plain value of the pickle in data, which must contain nothing else. It does
// not retain data. Its error is an *Error.
func Decode(data []byte) (any, error) { return DecodeObjects(data, nil) }

// DecodeObjects is like Decode, but the pickle may also contain the classes and functions that
// isAllowed accepts. These classes and functions become Globals. Calls to them become *Objects,
// which only describe the calls.
func DecodeObjects(data []byte, isAllowed func(module, name string) bool) (any, error) {
	r := reader{isAllowed: isAllowed, data: data, texts: pyvalue.NewTexts(len(data)), stack: make([]any, 0, min(len(data)/2, 256))}
	root, err := r.run()
	if err != nil {
		return nil, &Error{r.start, err}
	}
	if r.offset != len(data) {
		return nil, &Error{r.offset, fmt.Errorf("%d bytes follow the pickle", len(data)-r.offset)}
	}
	switch top := root.(type) {
	case *node:
		b := builder{unique: pyvalue.NewUnique(len(data))}
		err = b.buildNode(top)
		root = top.built
	case bytearrayFunction:
		err = errors.New("a function is not a plain value")
	}
	if err != nil {
		return nil, &Error{r.start, err}
	}
	return root, nil
}

// reader is the stack machine. Its stack holds values without elements in their final form. It
// holds containers as *node, because later instructions may still add elements to them.
type reader struct {
	isAllowed func(module, name string) bool // nil allows no classes and functions
	data      []byte
	offset    int // offset of the next byte
	start     int // offset of the current instruction
	stack     []any
	marks     []int // positions of the marks in the stack
	memo      []any // values that the pickle refers to by number
	texts     pyvalue.Texts
	copied    int // bytes copied by calls to bytearray
}

type kind uint8

const (
	list kind = iota
	dict      // items alternate between keys and values
	set
	frozenSet
	tuple
	object // items are the class, its arguments and, after setState, the state
)

// node is a container while it is read.
type node struct {
	kind  kind
	state uint8 // notBuilt, beingBuilt or isBuilt
	depth int32 // nesting depth; set when the node is built
	size  int64 // number of elements, including nested ones; set when the node is built
	items []any
	built any
}

func (r *reader) run() (any, error) {
	for {
		r.start = r.offset
		op, err := r.readByte()
		if err != nil {
			return nil, err
		}
		switch op {
		case opStop:
			top, err := r.popItems(1)
			if err != nil {
				return nil, err
			}
			return top[0], nil
		case opMark:
			r.marks = append(r.marks, len(r.stack))
		case opNone:
			r.push(nil)
		case opNewTrue:
			r.push(true)
		case opNewFalse:
			r.push(false)
		case opEmptyTuple:
			r.push(emptyTuple)
		case opEmptyList:
			r.push(&node{kind: list})
		case opEmptyDict:
			r.push(&node{kind: dict})
		case opEmptySet:
			r.push(&node{kind: set})
		case opTuple1, opTuple2, opTuple3:
			err = r.pushContainer(tuple, int(op-opTuple1)+1)
		case opTuple:
			err = r.pushContainer(tuple, toMark)
		case opFrozenSet:
			err = r.pushContainer(frozenSet, toMark)
		case opAppend:
			err = r.addItems(list, 1)
		case opSetItem:
			err = r.addItems(dict, 2)
		case opAppends:
			err = r.addItems(list, toMark)
		case opSetItems:
			err = r.addItems(dict, toMark)
		case opAddItems:
			err = r.addItems(set, toMark)
		case opMemoize:
			if len(r.stack) <= r.lastMark() {
				return nil, errors.New("the stack has no element to put into the memo")
			}
			r.memo = append(r.memo, r.stack[len(r.stack)-1])
		case opBinGet, opLongBinGet:
			var n uint64
			n, err = r.number(op)
			if err == nil && n >= uint64(len(r.memo)) {
				err = fmt.Errorf("the memo has no element %d", n)
			}
			if err == nil {
				r.push(r.memo[n])
			}
		case opProto:
			var version byte
			version, err = r.readByte()
			if err == nil && (version < 4 || version > 5) {
				err = fmt.Errorf("protocol %d: only protocols 4 and 5 are supported", version)
			}
		case opFrame:
			var n uint64 // the frame's length, which is checked but not used
			n, err = r.number(op)
			if err == nil && n > uint64(len(r.data)-r.offset) {
				err = fmt.Errorf("a frame of %d bytes, but only %d follow: %w", n, len(r.data)-r.offset, errTruncated)
			}
		case opStackGlobal:
			err = r.readGlobal()
		case opReduce:
			err = r.applyReduce()
		case opNewObj, opBuild:
			if r.isAllowed == nil {
				return nil, refusedError(op)
			} else if op == opNewObj {
				err = r.applyReduce()
			} else {
				err = r.setState()
			}
		default:
			var leaf any
			leaf, err = r.readLeaf(op)
			r.push(leaf)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *reader) readByte() (byte, error) {
	if r.offset == len(r.data) {
		return 0, errTruncated
	}
	r.offset++
	return r.data[r.offset-1], nil
}

// take returns the next n bytes, which share the input's memory.
func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.offset) {
		return nil, fmt.Errorf("%d bytes are left instead of %d: %w", len(r.data)-r.offset, n, errTruncated)
	}
	b := r.data[r.offset:][:n]
	r.offset += int(n)
	return b, nil
}

// number reads the little-endian number after an instruction.
func (r *reader) number(op byte) (uint64, error) {
	b, err := r.take(uint64(operandSizes[op]))
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v, err
}

func (r *reader) push(v any) { r.stack = append(r.stack, v) }

func (r *reader) lastMark() int {
	if len(r.marks) == 0 {
		return 0
	}
	return r.marks[len(r.marks)-1]
}

// toMark, passed as a number of elements, means all elements above the last mark.
const toMark = -1

// popItems removes n elements from the top of the stack and returns them. It cannot reach below the
// last mark. The elements are valid until the next push.
func (r *reader) popItems(n int) ([]any, error) {
	start := len(r.stack) - n
	if n == toMark {
		if len(r.marks) == 0 {
			return nil, errors.New("the stack has no mark")
		}
		start = r.lastMark()
		r.marks = r.marks[:len(r.marks)-1]
	} else if start < r.lastMark() {
		return nil, errUnderflow
	}
	elements := r.stack[start:]
	r.stack = r.stack[:start]
	return elements, nil
}

var emptyTuple = &node{kind: tuple, state: isBuilt, depth: 1, size: 1, built: pyvalue.Tuple{}}

func (r *reader) pushContainer(k kind, n int) error {
	elements, err := r.popItems(n)
	if err != nil {
		return err
	}
	r.push(&node{kind: k, items: slices.Clone(elements)})
	return nil
}

func (r *reader) addItems(k kind, n int) error {
	elements, err := r.popItems(n)
	if err != nil {
		return err
	}
	if len(r.stack) <= r.lastMark() {
		return errUnderflow
	}
	container, ok := r.stack[len(r.stack)-1].(*node)
	if !ok || container.kind != k {
		return fmt.Errorf("elements of a %s are added to another type", kindNames[k])
	}
	if k == dict && len(elements)%2 != 0 {
		return errors.New("a key without a value")
	}
	container.items = append(container.items, elements...)
	return nil
}

var kindNames = [...]string{list: "list", dict: "dict", set: "set", frozenSet: "frozenset", tuple: "tuple", object: "object"}
