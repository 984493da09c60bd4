package partdtest

import (
	"bytes"
	"fmt"
	"strconv"
)

// Concurrent writers append numbered pieces: a piece says who wrote it and how
// many that writer has written before, and is of a length that follows from
// both, so that a value can be taken apart again and a missing, doubled, torn
// or misplaced piece shows.

type piece struct{ writer, number int }

const pieceHead = len("[00 000000 ")

func (p piece) bytes() []byte {
	b := fmt.Appendf(nil, "[%02d %06d ", p.writer, p.number)
	for range (p.writer*31 + p.number*17) % 90 {
		b = append(b, 'a'+byte(p.number%26))
	}
	return append(b, ']')
}

// parsePieces takes a value apart.
func parsePieces(value []byte) ([]piece, error) {
	var all []piece
	for rest := value; len(rest) > 0; {
		if len(rest) <= pieceHead {
			return nil, torn(value, rest)
		}
		w, err1 := strconv.Atoi(string(rest[1:3]))
		n, err2 := strconv.Atoi(string(rest[4:10]))
		p := piece{w, n}
		if err1 != nil || err2 != nil || !bytes.HasPrefix(rest, p.bytes()) {
			return nil, torn(value, rest)
		}
		rest = rest[len(p.bytes()):]
		all = append(all, p)
	}
	return all, nil
}

func torn(value, rest []byte) error {
	at := len(value) - len(rest)
	return fmt.Errorf("at byte %d of %d there is no whole append: %q", at, len(value), value[max(0, at-20):min(len(value), at+60)])
}

// inSequence checks that each writer's pieces follow one another without a gap,
// and returns how many the writers have, by writer. If fromStart, each begins
// with number 0.
func inSequence(pieces []piece, fromStart bool) (map[int]int, error) {
	next := map[int]int{}
	for _, p := range pieces {
		want, seen := next[p.writer]
		if !seen && !fromStart {
			want = p.number
		}
		switch {
		case p.number > want:
			return nil, fmt.Errorf("writer %d: append %d comes where %d should: one is lost or late", p.writer, p.number, want)
		case p.number < want:
			return nil, fmt.Errorf("writer %d: append %d comes after %d: it is doubled or late", p.writer, p.number, want-1)
		}
		next[p.writer] = p.number + 1
	}
	return next, nil
}

// checkPieces is parsePieces and inSequence from the start.
func checkPieces(what string, value []byte) (map[int]int, error) {
	pieces, err := parsePieces(value)
	if err == nil {
		var next map[int]int
		if next, err = inSequence(pieces, true); err == nil {
			return next, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", what, err)
}
