package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
)

// readSums reads rows of a key, a count and an optional sum.
func readSums(in *input, out string) (digest, error) {
	var g grouping
	err := in.eachResult(out, func(line []byte) error {
		var numbers [2]float64
		n := 1
		if in.sumColumn > 0 {
			n = 2
		}
		// Search from the end, because gawk does not quote keys that contain commas.
		for i := n - 1; i >= 0; i-- {
			comma := bytes.LastIndexByte(line, ',')
			x, err := strconv.ParseFloat(string(line[comma+1:]), 64)
			if comma < 0 || err != nil {
				return fmt.Errorf("want a key and %d numbers, got %q", n, line)
			}
			numbers[i], line = x, line[:comma]
		}
		key, _ := csvField(line)
		if n := len(line); n > 0 && line[0] != '"' {
			key = line
		}
		g.add(key, sumOf(uint64(numbers[0]), numbers[1]))
		return nil
	})
	return g.end(), err
}

// readLists reads rows of a key and its values, separated by semicolons.
func readLists(in *input, out string) (digest, error) {
	var g grouping
	err := in.eachResult(out, func(line []byte) error {
		key, rest := csvField(line)
		list, _ := csvField(rest)
		for more := true; more; {
			var value []byte
			value, list, more = cutValue(list)
			g.add(key, value)
		}
		return nil
	})
	return g.end(), err
}

// readPairs reads rows of a key and a value.
func readPairs(in *input, out string) (digest, error) {
	var g grouping
	err := in.eachResult(out, func(line []byte) error {
		key, rest := csvField(line)
		value, _ := csvField(rest)
		g.add(key, value)
		return nil
	})
	return g.end(), err
}

// eachResult calls use with the rows of result.csv, which has a header if the input has one.
func (in *input) eachResult(out string, use func(line []byte) error) error {
	header := !in.text
	return eachLineOf(filepath.Join(out, "result.csv"), func(line []byte) error {
		if header {
			header = false
			return nil
		}
		return use(line)
	})
}

// csvField returns the first field of a row, and the rest after its comma.
func csvField(line []byte) (field, rest []byte) {
	field, rest, _ = cutField(line, ',')
	return field, rest
}

// cutValue returns the first value of a list, the rest, and whether more values follow.
func cutValue(list []byte) (value, rest []byte, more bool) { return cutField(list, ';') }

// cutField splits a line after its first field, which may be quoted, and the separator.
// more reports whether there was a separator.
func cutField(line []byte, separator byte) (field, rest []byte, more bool) {
	if len(line) == 0 || line[0] != '"' {
		return bytes.Cut(line, []byte{separator})
	}
	line = line[1:]
	for {
		quote := bytes.IndexByte(line, '"')
		if quote < 0 { // not closed: the comparison will fail
			return append(field, line...), nil, false
		}
		field = append(field, line[:quote]...)
		line = line[quote+1:]
		if len(line) == 0 {
			return field, nil, false
		}
		if line[0] == '"' {
			field = append(field, '"')
		}
		if line[0] == separator {
			return field, line[1:], true
		}
		line = line[1:]
	}
}
