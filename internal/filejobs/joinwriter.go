package filejobs

import (
	"github.com/go-partd/partd/internal/mergejoin"
	"github.com/go-partd/partd/internal/output"
)

// joinWriter writes the rows of a join.
type joinWriter struct {
	job         *job
	left, right *joinSide
	whole       *converter // writes records of the left side, where there are no pairs
	buf         []byte
	rows        int64
}

// newJoinWriter returns a writer, after both sides were read and after writing the
// header.
func newJoinWriter(j *job, left, right *joinSide, how mergejoin.How) (w *joinWriter, err error) {
	w = &joinWriter{job: j, left: left, right: right}
	if !how.Pairs() {
		w.whole, err = newConverter(j, j.sink)
		return w, err
	}
	w.buf, err = right.rows.AppendHeader(nil)
	return w, err
}

const joinBuffer = 256 << 10

// write writes a row; nil is no partner.
func (w *joinWriter) write(left, right []byte) (err error) {
	w.rows++
	if w.whole != nil {
		w.buf = append(w.buf, left...)
		return w.flushAt(joinBuffer)
	}
	var key, lefts, rights []byte
	if right == nil {
		rights, err = w.right.missing()
	} else {
		key, rights, err = w.right.written(right)
	}
	if err != nil {
		return err
	}
	if left == nil {
		lefts, err = w.left.missing()
	} else {
		key, lefts, err = w.left.written(left)
	}
	if err != nil {
		return err
	}
	if len(key)+len(lefts)+len(rights) == 0 { // an empty line may be no record
		if w.buf, err = w.right.rows.Append(w.buf, []output.Value{{}}); err != nil {
			return err
		}
		return w.flushAt(joinBuffer)
	}
	w.buf = append(append(append(w.buf, key...), lefts...), rights...)
	w.buf = w.right.rows.AppendEnd(w.buf)
	return w.flushAt(joinBuffer)
}

// flushAt writes what is buffered, if it is so many bytes.
func (w *joinWriter) flushAt(n int) (err error) {
	if len(w.buf) < n {
		return nil
	}
	if w.whole != nil {
		err = w.whole.write(w.job.sink, w.buf)
	} else {
		_, err = w.job.sink.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return err
}
