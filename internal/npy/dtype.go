// Package npy knows the types of NumPy's arrays, as the attribute str of their
// dtype gives them, and the bytes of their elements.
//
// The texts are described in NumPy's manual, "The array interface protocol":
//
//	order  '<' little-endian, '>' big-endian, '|' neither
//	kind   b bool, i and u integers, f float, c complex, M time, m duration, O object
//	size   of an element, in bytes
//	[unit] of times and durations: ns, us, ms, s, m, h, D, W
package npy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// DType is the type of an array's elements.
type DType struct {
	Kind byte
	Size int // of an element in bytes, 0 for objects
	Big  bool
	Unit string // of times and durations
}

// sizes are those of each kind that is known, in bytes.
var sizes = map[byte][]string{
	'b': {"1"}, 'i': {"1", "2", "4", "8"}, 'u': {"1", "2", "4", "8"},
	'f': {"2", "4", "8"}, 'c': {"8", "16"}, 'M': {"8"}, 'm': {"8"},
}

// Parse returns the type that a text stands for.
func Parse(text string) (DType, error) {
	if len(text) > 100 {
		return DType{}, fmt.Errorf("%.40q… (%d bytes) is not a dtype", text, len(text))
	}
	if strings.HasPrefix(text, "[") {
		return DType{}, fmt.Errorf("%q is a dtype of records, which cannot be read", text)
	}
	d, err := parse(text)
	if err != nil {
		return DType{}, fmt.Errorf("%q is not a dtype that is known: %w", text, err)
	}
	return d, nil
}

func parse(text string) (d DType, err error) {
	rest := strings.TrimLeft(text, "<>|=")
	order := text[:len(text)-len(rest)]
	if len(order) > 1 {
		return d, errors.New("it has several byte orders")
	}
	if rest == "" {
		return d, errors.New("it has no kind")
	}
	d.Kind, rest = rest[0], rest[1:]
	if d.Kind == 'O' {
		if rest != "" && rest != "8" {
			return d, errors.New("objects have no such size")
		}
		return d, nil
	}
	known, ok := sizes[d.Kind]
	if !ok {
		return d, fmt.Errorf("there is no kind %q", d.Kind)
	}
	size, unit, hasUnit := strings.Cut(rest, "[")
	if !slices.Contains(known, size) {
		return d, fmt.Errorf("the kind %q has no size %q", d.Kind, size)
	}
	if d.Size, err = strconv.Atoi(size); err != nil {
		return d, err
	}
	d.Big = order == ">" && d.Size > 1
	if timed := d.Kind == 'M' || d.Kind == 'm'; timed != hasUnit {
		return d, errors.New("only times and durations have a unit, and all do")
	}
	if hasUnit {
		d.Unit, ok = strings.CutSuffix(unit, "]")
		if !ok || nanoseconds[d.Unit] == 0 {
			return d, fmt.Errorf("unknown unit %q", unit)
		}
	}
	return d, nil
}

// String returns the text for a type, as NumPy writes it.
func (d DType) String() string {
	switch {
	case d.Kind == 'O':
		return "|O"
	case d.Unit != "":
		return d.order() + string(d.Kind) + strconv.Itoa(d.Size) + "[" + d.Unit + "]"
	}
	return d.order() + string(d.Kind) + strconv.Itoa(d.Size)
}

func (d DType) order() string {
	switch {
	case d.Size == 1:
		return "|"
	case d.Big:
		return ">"
	}
	return "<"
}

// word returns the size of what a byte order applies to.
func (d DType) word() int {
	if d.Kind == 'c' {
		return d.Size / 2
	}
	return d.Size
}
