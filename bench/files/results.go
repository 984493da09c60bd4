package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
)

// readSums reads rows of a key, a count and an optional sum.
func readSums(src *input, outDir string, g *grouping) error {
	return src.eachResult(outDir, func(line []byte) error {
		var numbers [2]float64
		n := 1
		if src.sumNumber > 0 {
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
		key, _, _ := cutField(line, ',')
		if n := len(line); n > 0 && line[0] != '"' {
			key = line
		}
		g.add(key, sumOf(uint64(numbers[0]), numbers[1]))
		return nil
	})
}

// readLists reads rows of a key and its values, separated by semicolons.
func readLists(src *input, outDir string, g *grouping) error {
	return src.eachResult(outDir, func(line []byte) error {
		key, rest, _ := cutField(line, ',')
		list, _, _ := cutField(rest, ',')
		for hasMore := true; hasMore; {
			var value []byte
			value, list, hasMore = cutField(list, ';')
			g.add(key, value)
		}
		return nil
	})
}

// readPairs reads rows of a key and a value.
func readPairs(src *input, outDir string, g *grouping) error {
	return src.eachResult(outDir, func(line []byte) error {
		key, rest, _ := cutField(line, ',')
		value, _, _ := cutField(rest, ',')
		g.add(key, value)
		return nil
	})
}

// eachResult calls handle for each row of result.csv. It skips the header, which the file has if
// the input has one.
func (src *input) eachResult(outDir string, handle func(line []byte) error) error {
	return eachLineOf(filepath.Join(outDir, "result.csv"), !src.isText, handle)
}

// cutField returns the first field of a line, which may be quoted, and the rest of the line after
// the separator. hasMore reports whether there was a separator.
func cutField(line []byte, separator byte) (field, remaining []byte, hasMore bool) {
	if len(line) == 0 || line[0] != '"' {
		return bytes.Cut(line, []byte{separator})
	}
	line = line[1:]
	for {
		quote := bytes.IndexByte(line, '"')
		if quote < 0 { // unclosed, so the output is wrong, and its digest will differ
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
