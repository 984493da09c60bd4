package partdtest

import (
	"bytes"
	"fmt"
	"strconv"
)

// Concurrent writers append numbered pieces. A piece names its writer and its number, and its length
// depends on both. So a value can be split into its pieces, and missing, repeated, torn or misplaced
// pieces can be detected.

type piece struct{ writer, number int }

const pieceHead = len("[00 000000 ")

func (p piece) bytes() []byte {
	b := fmt.Appendf(nil, "[%02d %06d ", p.writer, p.number)
	for range (p.writer*31 + p.number*17) % 90 {
		b = append(b, 'a'+byte(p.number%26))
	}
	return append(b, ']')
}

// parsePieces splits a value into its pieces.
func parsePieces(value []byte) ([]piece, error) {
	var all []piece
	for rest := value; len(rest) > 0; {
		if len(rest) <= pieceHead {
			return nil, tornError(value, rest)
		}
		w, err1 := strconv.Atoi(string(rest[1:3]))
		n, err2 := strconv.Atoi(string(rest[4:10]))
		p := piece{w, n}
		if err1 != nil || err2 != nil || !bytes.HasPrefix(rest, p.bytes()) {
			return nil, tornError(value, rest)
		}
		rest = rest[len(p.bytes()):]
		all = append(all, p)
	}
	return all, nil
}

func tornError(value, rest []byte) error {
	at := len(value) - len(rest)
	return fmt.Errorf("byte %d of %d does not begin a whole append: %q", at, len(value), value[max(0, at-20):min(len(value), at+60)])
}

// inSequence checks that each writer's pieces are consecutive, and returns the number of the next piece by
// writer. If fromStart is true, each writer must begin with number 0.
func inSequence(pieces []piece, fromStart bool) (map[int]int, error) {
	next := map[int]int{}
	for _, p := range pieces {
		want, seen := next[p.writer]
		if !seen && !fromStart {
			want = p.number
		}
		switch {
		case p.number > want:
			return nil, fmt.Errorf("writer %d: append %d comes in place of %d: one is lost or late", p.writer, p.number, want)
		case p.number < want:
			return nil, fmt.Errorf("writer %d: append %d comes after %d: it is repeated or late", p.writer, p.number, want-1)
		}
		next[p.writer] = p.number + 1
	}
	return next, nil
}

// checkPieces calls parsePieces and inSequence from the start.
func checkPieces(label string, value []byte) (map[int]int, error) {
	pieces, err := parsePieces(value)
	if err == nil {
		var next map[int]int
		if next, err = inSequence(pieces, true); err == nil {
			return next, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", label, err)
}
