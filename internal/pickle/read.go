package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/plain"
)

var (
	errTruncated = errors.New("it ends too early")
	errUnderflow = errors.New("it takes more from the stack than there is")
)

// Decode returns the plain value of a pickle, which has to fill data. Nothing of
// data is kept. Its error is an *Error.
func Decode(data []byte) (any, error) {
	r := reader{data: data, texts: plain.NewTexts(len(data)), stack: make([]any, 0, min(len(data)/2, 256))}
	root, err := r.run()
	if err != nil {
		return nil, &Error{r.start, err}
	}
	if r.at != len(data) {
		return nil, &Error{r.at, fmt.Errorf("%d bytes follow the end", len(data)-r.at)}
	}
	v, err := newBuilder(len(data)).build(root)
	if err != nil {
		return nil, &Error{r.start, err}
	}
	return v, nil
}

// reader is the stack machine. On its stack are leaves as they will be returned,
// and containers as *node, because an instruction may yet add to one that was
// used already.
type reader struct {
	data   []byte
	at     int // the next byte
	start  int // the instruction
	stack  []any
	marks  []int // where in the stack the marks are
	memo   []any // by number, as far as they come in order
	others map[uint64]any
	texts  plain.Texts
	copied int // elements and bytes that calls copied
}

type kind uint8

const (
	list kind = iota
	dict      // items are keys and values in turn
	set
	frozenSet
	tuple
)

// node is a container that is being read.
type node struct {
	kind  kind
	state uint8
	depth int32 // of nesting, once built
	size  int64 // elements with those within, once built
	items []any
	built any
}

func (r *reader) run() (any, error) {
	for {
		r.start = r.at
		op, err := r.byte()
		if err != nil {
			return nil, err
		}
		switch op {
		case opStop:
			return r.pop()
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
			err = r.collect(tuple, int(op-opTuple1)+1)
		case opTuple:
			err = r.marked(tuple)
		case opList:
			err = r.marked(list)
		case opDict:
			err = r.marked(dict)
		case opFrozenSet:
			err = r.marked(frozenSet)
		case opAppend:
			err = r.add(list, 1)
		case opSetItem:
			err = r.add(dict, 2)
		case opAppends:
			err = r.addMarked(list)
		case opSetItems:
			err = r.addMarked(dict)
		case opAddItems:
			err = r.addMarked(set)
		case opPop, opPopMark, opDup:
			err = r.shuffle(op)
		case opProto, opFrame:
			err = r.header(op)
		case opGlobal, opStackGlobal:
			err = r.global(op)
		case opReduce:
			err = r.reduce()
		default:
			err = r.other(op)
		}
		if err != nil {
			return nil, err
		}
	}
}

// other tries the instructions of the memo, and those that push a leaf.
func (r *reader) other(op byte) error {
	known, err := r.memory(op)
	if known || err != nil {
		return err
	}
	leaf, err := r.leaf(op)
	if err != nil {
		return err
	}
	r.push(leaf)
	return nil
}

// header reads what stands before the instructions and says nothing of the value.
func (r *reader) header(op byte) error {
	if op == opProto {
		version, err := r.byte()
		if err == nil && version > 5 {
			err = fmt.Errorf("protocol %d: 0 to 5 are read", version)
		}
		return err
	}
	n, err := r.number(8)
	if err == nil && n > uint64(len(r.data)-r.at) {
		err = fmt.Errorf("a frame of %d bytes, and %d are left: %w", n, len(r.data)-r.at, errTruncated)
	}
	return err
}

// The input.

func (r *reader) byte() (byte, error) {
	if r.at == len(r.data) {
		return 0, errTruncated
	}
	r.at++
	return r.data[r.at-1], nil
}

// next returns the next n bytes, which are part of the input.
func (r *reader) next(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.at) {
		return nil, fmt.Errorf("%d bytes are left of %d: %w", len(r.data)-r.at, n, errTruncated)
	}
	b := r.data[r.at:][:n]
	r.at += int(n)
	return b, nil
}

// number reads n bytes, little-endian.
func (r *reader) number(n int) (uint64, error) {
	b, err := r.next(uint64(n))
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v, err
}

// line reads up to the end of a line.
func (r *reader) line() ([]byte, error) {
	n := bytes.IndexByte(r.data[r.at:], '\n')
	if n < 0 {
		return nil, errTruncated
	}
	b, err := r.next(uint64(n) + 1)
	return b[:n], err
}

// The stack. What is below the last mark is out of reach.

func (r *reader) push(v any) { r.stack = append(r.stack, v) }

func (r *reader) floor() int {
	if len(r.marks) == 0 {
		return 0
	}
	return r.marks[len(r.marks)-1]
}

func (r *reader) pop() (any, error) {
	if len(r.stack) <= r.floor() {
		return nil, errUnderflow
	}
	v := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	return v, nil
}

// popMark removes the last mark and returns the elements above it, which are
// good until the next push.
func (r *reader) popMark() ([]any, error) {
	if len(r.marks) == 0 {
		return nil, errors.New("there is no mark")
	}
	from := r.floor()
	r.marks = r.marks[:len(r.marks)-1]
	elements := r.stack[from:]
	r.stack = r.stack[:from]
	return elements, nil
}

func (r *reader) shuffle(op byte) error {
	if op == opPopMark || op == opPop && len(r.marks) > 0 && len(r.stack) == r.floor() {
		_, err := r.popMark()
		return err
	}
	v, err := r.pop()
	if err == nil && op == opDup {
		r.stack = append(r.stack, v, v)
	}
	return err
}

// Containers.

var emptyTuple = &node{kind: tuple, state: done, depth: 1, size: 1, built: plain.Tuple{}}

func (r *reader) collect(k kind, n int) error {
	if len(r.stack)-r.floor() < n {
		return errUnderflow
	}
	from := len(r.stack) - n
	items := slices.Clone(r.stack[from:])
	r.stack = append(r.stack[:from], &node{kind: k, items: items})
	return nil
}

func (r *reader) marked(k kind) error {
	elements, err := r.popMark()
	if err != nil {
		return err
	}
	if k == dict && len(elements)%2 != 0 {
		return errors.New("a key without a value")
	}
	r.push(&node{kind: k, items: slices.Clone(elements)})
	return nil
}

func (r *reader) addMarked(k kind) error {
	elements, err := r.popMark()
	if err != nil {
		return err
	}
	return r.addTo(k, elements)
}

func (r *reader) add(k kind, n int) error {
	if len(r.stack)-r.floor() < n {
		return errUnderflow
	}
	from := len(r.stack) - n
	elements := r.stack[from:]
	r.stack = r.stack[:from]
	return r.addTo(k, elements)
}

// addTo adds elements to the container on top of the stack.
func (r *reader) addTo(k kind, elements []any) error {
	if len(r.stack) <= r.floor() {
		return errUnderflow
	}
	to, ok := r.stack[len(r.stack)-1].(*node)
	if !ok || to.kind != k {
		return fmt.Errorf("elements for a %s are added to something else", kindNames[k])
	}
	if k == dict && len(elements)%2 != 0 {
		return errors.New("a key without a value")
	}
	to.items = append(to.items, elements...)
	return nil
}

var kindNames = [...]string{list: "list", dict: "dict", set: "set", frozenSet: "frozenset", tuple: "tuple"}
