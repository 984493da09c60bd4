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

// A kept record begins with the length of the fields of --on, plus one, as a uvarint. If the
// output cannot represent the record, there is a 0 instead, followed by the reason. That is
// an error only if the record is written.
const cannotWrite = 0

var errShortRow = errors.New("a record in the temporary data is incomplete")

// withKey reports whether the output has the fields of --on of this side.
func (s *joinSide) withKey() bool { return !s.right || s.kind.RightUnmatched() }

// copy appends the fields of a record as they will be written: the fields of --on, if the
// output has them, then the others. It returns false if they cannot be copied unchanged, or
// if they have quotes that may not be needed.
func (s *joinSide) copy(dst, record []byte, picked [][]byte) (_ []byte, ok bool) {
	if !s.copiesFields {
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
	for start := 0; start <= len(line); { // a field begins at index start
		key, end := len(line)+1, len(line)+1 // the next field of --on
		for _, f := range picked {
			begins := offset(line, f)
			if begins < 0 || begins+len(f) > len(line) {
				return dst[:from], false
			}
			if begins >= start && begins < key {
				key, end = begins, begins+len(f)
			}
		}
		if key > start {
			dst = append(append(dst, sep), line[start:key-1]...)
		}
		start = end + 1
	}
	return dst, true
}

// offset returns the index in a line where one of its fields begins.
func offset(line, field []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(field))) - uintptr(unsafe.Pointer(unsafe.SliceData(line))))
}

// endKey sets the length of the fields of --on. dst[from] is reserved for it.
func endKey(dst []byte, from int) []byte {
	n := len(dst) - from
	if n < 1<<7 {
		dst[from] = byte(n)
		return dst
	}
	return slices.Replace(dst, from, from+1, binary.AppendUvarint(nil, uint64(n))...)
}

// encode is like copy, but writes field by field. fields has the fields of the record, or is nil
// if they must still be determined.
func (s *joinSide) encode(dst []byte, w *joinWorker, fields [][]byte, record []byte) []byte {
	text, err := s.appendFields(append(dst, cannotWrite), w, fields, record)
	if err != nil {
		dst = append(dst, cannotWrite)
		return fmt.Appendf(dst, "%s: the record %s: %v", s.job.Files[0], quoteShort(trimNewline(record)), err)
	}
	return text
}

// appendFields appends the fields. The last byte of dst is reserved for the length.
func (s *joinSide) appendFields(dst []byte, w *joinWorker, fields [][]byte, record []byte) (_ []byte, err error) {
	var bare []bool
	if fields == nil {
		if w.split == nil {
			w.split = allFields(s.job.From, s.columns)
		}
		w.split.Feed(record, true)
		if kind := w.split.Next(); kind != records.Data {
			return nil, w.split.Err
		}
		fields, bare = w.split.Values, w.split.Bare
	}
	n := len(fields)
	put := func(column, i int) (err error) {
		v := output.Value{Text: fields[i]}
		if s.isJSON() {
			v.Missing, v.JSON = fields[i] == nil, bare[i]
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
	for i, column := 0, s.firstOther; i < n && err == nil; i++ {
		if !isKey(i) {
			err = put(column, i)
			column++
		}
	}
	return dst, err
}

// fieldsOf returns the fields of a kept record, as encode has written them.
func (s *joinSide) fieldsOf(w *joinWorker, rec []byte) (key, otherFields []byte, err error) {
	if s.lateColumns {
		w.buf = s.encode(w.buf[:0], w, nil, rec)
		rec = w.buf
	}
	n, l := binary.Uvarint(rec)
	switch {
	case l <= 0 || n > uint64(len(rec)-l)+1:
		return nil, nil, errShortRow
	case n == cannotWrite:
		return nil, nil, errors.New(string(rec[l:]))
	}
	end := l + int(n) - 1
	return rec[l:end], rec[end:], nil
}

// missing returns the other fields for a row without a partner on this side.
func (s *joinSide) missing(w *joinWorker) (_ []byte, err error) {
	if w.missing != nil {
		return w.missing, nil
	}
	text := []byte{}
	for i := range s.otherCount() {
		if text, err = s.rows.AppendStart(text, s.firstOther+i); err == nil {
			text, err = s.rows.AppendField(text, s.firstOther+i, &output.Value{Missing: true})
		}
		if err != nil {
			return nil, fmt.Errorf("a record without a partner: %w", err)
		}
	}
	w.missing = text
	return text, nil
}
