package filejobs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// The key fields in a record are the fields that --on names. A stored record begins with the length
// of its key fields, plus one, as a uvarint. If the output cannot represent a record, the record is
// stored as cannotWrite and the reason, which becomes an error only if the record must be written.
const cannotWrite = 0

var errShortRow = errors.New("temporary data is damaged: a record is incomplete")

// storesKey reports whether stored records include their key fields. The right side needs these
// fields only for rows without a left record.
func (s *joinSide) storesKey() bool { return !s.isRight || s.kind.RightUnmatched() }

// appendCopied appends a record in its stored form: the key fields if storesKey says so, then the
// other fields. It returns false if it cannot copy the fields unchanged, or if they
// contain quotes, because the output may not need these.
func (s *joinSide) appendCopied(dst, record []byte, keyFields [][]byte) (_ []byte, ok bool) {
	if !s.canCopyFields {
		return dst, false
	}
	sep := s.job.From.Separator()[0]
	line := bytes.TrimSuffix(trimNewline(record), []byte{'\r'})
	if bytes.IndexByte(line, '\r') >= 0 || sep != '\t' && bytes.IndexByte(line, '"') >= 0 {
		return dst, false
	}
	from := len(dst)
	dst = append(dst, cannotWrite)
	if s.storesKey() {
		for i, f := range keyFields {
			if i > 0 {
				dst = append(dst, sep)
			}
			dst = append(dst, f...)
		}
	}
	dst = endKey(dst, from)
	for start := 0; start <= len(line); { // a field begins at index start
		key, end := len(line)+1, len(line)+1 // bounds of the next key field
		for _, f := range keyFields {
			fieldStart := offset(line, f)
			if fieldStart < 0 || fieldStart+len(f) > len(line) {
				return dst[:from], false
			}
			if fieldStart >= start && fieldStart < key {
				key, end = fieldStart, fieldStart+len(f)
			}
		}
		if key > start {
			dst = append(append(dst, sep), line[start:key-1]...)
		}
		start = end + 1
	}
	return dst, true
}

// offset returns the index of field in line. field and line must be slices of the same array.
func offset(line, field []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(field))) - uintptr(unsafe.Pointer(unsafe.SliceData(line))))
}

// endKey stores the length of the key fields, which are at the end of dst, in the reserved byte
// dst[from]. It moves the fields if the length needs more than a byte.
func endKey(dst []byte, from int) []byte {
	n := len(dst) - from
	if n < 1<<7 {
		dst[from] = byte(n)
		return dst
	}
	return slices.Replace(dst, from, from+1, binary.AppendUvarint(nil, uint64(n))...)
}

// appendEncoded is like appendCopied, but formats each field. If fields is nil, it splits the
// record.
func (s *joinSide) appendEncoded(dst []byte, w *joinWorker, fields [][]byte, record []byte) []byte {
	text, err := s.appendFields(append(dst, cannotWrite), w, fields, record)
	if err != nil {
		dst = append(dst, cannotWrite)
		return fmt.Appendf(dst, "%s: the record %s: %v", s.job.Files[0], QuoteShort(trimNewline(record)), err)
	}
	return text
}

// appendFields does the work of appendEncoded. The last byte of dst must be reserved for endKey.
func (s *joinSide) appendFields(dst []byte, w *joinWorker, fields [][]byte, record []byte) (_ []byte, err error) {
	var bare []bool
	if fields == nil {
		if w.splitter == nil {
			w.splitter = s.allFields()
		}
		w.splitter.Feed(record, true)
		if kind := w.splitter.Next(); kind != records.Data {
			return nil, w.splitter.Err
		}
		fields, bare = w.splitter.Values, w.splitter.Bare
	}
	n := len(fields)
	appendColumn := func(column, i int) (err error) {
		v := output.Value{Text: fields[i]}
		if s.isJSON() {
			v.Missing, v.JSON = fields[i] == nil, bare[i]
		}
		dst, err = s.rows.AppendStart(dst, column)
		if err != nil {
			return err
		}
		dst, err = s.rows.AppendField(dst, column, &v)
		return err
	}
	from := len(dst) - 1
	for column := 0; s.storesKey() && column < len(s.keys) && err == nil; column++ {
		err = appendColumn(column, (s.keys[column]+n)%n)
	}
	dst = endKey(dst, from)
	for i, column := 0, s.firstOtherColumn; i < n && err == nil; i++ {
		if !s.isKey(i, n) {
			err = appendColumn(column, i)
			column++
		}
	}
	return dst, err
}

// fieldsOf returns the output form of a stored record's fields.
func (s *joinSide) fieldsOf(w *joinWorker, rec []byte) (key, otherFields []byte, err error) {
	if s.lateColumns {
		w.buf = s.appendEncoded(w.buf[:0], w, nil, rec)
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

// missingFields returns the empty fields that stand for this side in a row without a record of this
// side.
func (s *joinSide) missingFields(w *joinWorker) (_ []byte, err error) {
	if w.missingFields != nil {
		return w.missingFields, nil
	}
	text := []byte{}
	for i := range s.otherCount() {
		text, err = s.rows.AppendStart(text, s.firstOtherColumn+i)
		if err == nil {
			text, err = s.rows.AppendField(text, s.firstOtherColumn+i, &output.Value{Missing: true})
		}
		if err != nil {
			return nil, fmt.Errorf("the missing fields of a record without a partner: %w", err)
		}
	}
	w.missingFields = text
	return text, nil
}
