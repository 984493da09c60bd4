package filejobs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

// What encode makes begins with the length of the fields of --on, plus one. A 0 says
// that the output cannot hold the record, and is followed by why: that is an error only
// if the record is written at all.
const cannotWrite = 0

var errShortRow = errors.New("a record of the temporary data is not whole")

// withKey reports whether the fields of --on are written as this side has them.
func (s *joinSide) withKey() bool { return !s.right || s.how.RightAlone() }

// copy appends the fields of a record as the output has them: those of --on, if they
// are written, then the others. It returns false where they are not written with
// the bytes that they have, and where they have quotes that may not be needed.
func (s *joinSide) copy(dst, record []byte, picked [][]byte) (_ []byte, ok bool) {
	if !s.copies {
		return dst, false
	}
	sep := s.job.From.Separator()[0]
	line := bytes.TrimSuffix(trimNewline(record), []byte{'\r'})
	if bytes.IndexByte(line, '\r') >= 0 || sep != '\t' && bytes.IndexByte(line, '"') >= 0 {
		return dst, false
	}
	from := len(dst)
	dst = append(dst, cannotWrite)
	if s.withKey() {
		for i, f := range picked {
			if i > 0 {
				dst = append(dst, sep)
			}
			dst = append(dst, f...)
		}
	}
	dst = endKey(dst, from)
	for at := 0; at <= len(line); { // a field begins there
		key, end := len(line)+1, len(line)+1 // the next field of --on
		for _, f := range picked {
			begins := offset(line, f)
			if begins < 0 || begins+len(f) > len(line) {
				return dst[:from], false
			}
			if begins >= at && begins < key {
				key, end = begins, begins+len(f)
			}
		}
		if key > at {
			dst = append(append(dst, sep), line[at:key-1]...)
		}
		at = end + 1
	}
	return dst, true
}

// offset returns where in a line a field of it begins.
func offset(line, field []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(field))) - uintptr(unsafe.Pointer(unsafe.SliceData(line))))
}

// endKey notes the length of the fields of --on, which begin after a byte for it.
func endKey(dst []byte, from int) []byte {
	n := len(dst) - from
	if n < 1<<7 {
		dst[from] = byte(n)
		return dst
	}
	return slices.Replace(dst, from, from+1, binary.AppendUvarint(nil, uint64(n))...)
}

// encode does what copy does, field by field. All are those of the record; nil are to
// be found.
func (s *joinSide) encode(dst []byte, w *joinWorker, all [][]byte, record []byte) []byte {
	text, err := s.appendFields(append(dst, cannotWrite), w, all, record)
	if err != nil {
		dst = append(dst, cannotWrite)
		return fmt.Appendf(dst, "%s: the record %s: %v", s.job.Files[0], quoteShort(trimNewline(record)), err)
	}
	return text
}

// appendFields appends them after the byte for the length.
func (s *joinSide) appendFields(dst []byte, w *joinWorker, all [][]byte, record []byte) (_ []byte, err error) {
	var bare []bool
	if all == nil {
		if w.split == nil {
			w.split = allFields(s.job.From, s.columns)
		}
		w.split.Feed(record, true)
		if kind := w.split.Next(); kind != records.Data {
			return nil, w.split.Err
		}
		all, bare = w.split.Values, w.split.Bare
	}
	n := len(all)
	put := func(column, i int) (err error) {
		v := output.Value{Text: all[i]}
		if s.json() {
			v.Missing, v.JSON = all[i] == nil, bare[i]
		}
		if dst, err = s.rows.AppendStart(dst, column); err != nil {
			return err
		}
		dst, err = s.rows.AppendField(dst, column, &v)
		return err
	}
	from := len(dst) - 1
	isKey := func(i int) bool { return slices.Contains(s.keys, i) || slices.Contains(s.keys, i-n) }
	for column := 0; s.withKey() && column < len(s.keys) && err == nil; column++ {
		err = put(column, (s.keys[column]+n)%n)
	}
	dst = endKey(dst, from)
	for i, column := 0, s.first; i < n && err == nil; i++ {
		if !isKey(i) {
			err = put(column, i)
			column++
		}
	}
	return dst, err
}

// fieldsOf returns the fields of what was kept of a record, as encode made them.
func (s *joinSide) fieldsOf(w *joinWorker, kept []byte) (key, others []byte, err error) {
	if s.late {
		w.buf = s.encode(w.buf[:0], w, nil, kept)
		kept = w.buf
	}
	n, l := binary.Uvarint(kept)
	switch {
	case l <= 0 || n > uint64(len(kept)-l)+1:
		return nil, nil, errShortRow
	case n == cannotWrite:
		return nil, nil, errors.New(string(kept[l:]))
	}
	end := l + int(n) - 1
	return kept[l:end], kept[end:], nil
}

// missing returns what stands for the others of a side without a partner.
func (s *joinSide) missing(w *joinWorker) (_ []byte, err error) {
	if w.none != nil {
		return w.none, nil
	}
	text := []byte{}
	for i := range s.others() {
		if text, err = s.rows.AppendStart(text, s.first+i); err == nil {
			text, err = s.rows.AppendField(text, s.first+i, &output.Value{Missing: true})
		}
		if err != nil {
			return nil, fmt.Errorf("a record without a partner: %w", err)
		}
	}
	w.none = text
	return text, nil
}
