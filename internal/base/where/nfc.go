package where

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// graphemeJoiner is U+034F, which package norm inserts after each 30 combining marks in a row.
var graphemeJoiner = []byte("\u034f")

// normalize returns text in Unicode's normalization form C. Package norm implements the stream-safe
// text format of UAX #15 instead, so longer sequences of combining marks are normalized here. Bytes
// that are not UTF-8 stay as they are.
func normalize(text []byte) []byte {
	n := norm.NFC.Bytes(text)
	if bytes.Count(n, graphemeJoiner) == bytes.Count(text, graphemeJoiner) {
		return n
	}
	return compose(decompose(text))
}

// char is a character of a decomposed text.
type char struct {
	bytes []byte
	class uint8 // canonical combining class, which is 0 for all but combining marks
}

// decompose returns the characters of a text in normalization form D.
func decompose(text []byte) []char {
	var chars []char
	for len(text) > 0 {
		_, size := utf8.DecodeRune(text)
		for d := norm.NFD.Bytes(text[:size]); len(d) > 0; {
			_, n := utf8.DecodeRune(d)
			chars = append(chars, char{d[:n:n], norm.NFD.Properties(d[:n]).CCC()})
			d = d[n:]
		}
		text = text[size:]
	}
	for rest := chars; len(rest) > 0; {
		marks := slices.IndexFunc(rest, func(c char) bool { return c.class == 0 })
		if marks < 0 {
			marks = len(rest)
		}
		slices.SortStableFunc(rest[:marks], func(a, b char) int { return int(a.class) - int(b.class) })
		rest = rest[min(marks+1, len(rest)):]
	}
	return chars
}

// compose returns the text of chars in normalization form C: it joins each character with the last
// character of class 0 if Unicode has one for both and no character in between blocks that.
func compose(chars []char) []byte {
	starter := -1 // index of the last character of class 0
	joined := chars[:0]
	for _, c := range chars {
		last := len(joined) - 1
		if starter >= 0 && (last == starter || joined[last].class != 0 && joined[last].class < c.class) {
			pair := norm.NFC.Bytes(slices.Concat(joined[starter].bytes, c.bytes))
			if r, n := utf8.DecodeRune(pair); n == len(pair) && r != utf8.RuneError {
				joined[starter].bytes = pair
				continue
			}
		}
		if c.class == 0 {
			starter = len(joined)
		}
		joined = append(joined, c)
	}
	var text []byte
	for _, c := range joined {
		text = append(text, c.bytes...)
	}
	return text
}
