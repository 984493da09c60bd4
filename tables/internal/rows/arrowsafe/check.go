package arrowsafe

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// Checker checks the batches of a stream, in order.
type Checker struct {
	Limit int64 // maximum growth of a batch when each row gets its own copy of its value, in bytes

	dictionaries map[arrow.ArrayData]bool // dictionaries in the last batch, which need no second check
}

// Check validates all offsets, indices and texts in a batch. If rows share values, for example through a dictionary,
// the batch grows when each row gets its own copy. Check returns that growth in bytes. It rejects the batch if the
// growth exceeds c.Limit. Check takes time in proportion to the batch's size and c.Limit and stops when ctx ends.
func (c *Checker) Check(ctx context.Context, batch arrow.RecordBatch) (growth int64, err error) {
	i := 0
	defer func() {
		if p := recover(); p != nil { // Arrow's validation panics on some invalid inputs
			err = fmt.Errorf("column %q has type %s, and its rows refer to values that the batch does not contain: %v", batch.ColumnName(i), batch.Column(i).DataType(), p)
		}
	}()
	w := &walk{ctx: ctx, limit: c.Limit, known: c.dictionaries, seen: map[arrow.ArrayData]bool{}}
	var column arrow.Array
	for i, column = range batch.Columns() {
		w.validate(column.Data())
		if w.err == nil {
			growth += w.expandedSize(column)
		}
		if growth > c.Limit {
			w.fail(w.tooLarge())
		}
		switch {
		case w.err != nil && ctx.Err() != nil:
			return 0, w.err
		case w.err != nil:
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), w.err)
		}
	}
	c.dictionaries = w.seen
	return growth, nil
}

// walk reads the arrays of a batch and stops at the first error.
type walk struct {
	ctx         context.Context
	limit       int64
	known, seen map[arrow.ArrayData]bool // checked dictionaries in the last batch, and in this one
	viewed      int64                    // total length of the views so far, in bytes
	visited     int64                    // values that visit has counted
	sinceCheck  int64                    // units of work since ctx was last checked
	isExact     bool                     // sizes are those in memory, without what Checker charges for empty values and offsets
	err         error
}

func (w *walk) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *walk) tooLarge() error {
	return fmt.Errorf("its rows share values, and separate copies exceed the limit of %d bytes: send smaller batches: %w", w.limit, partd.ErrTooLarge)
}

const checkInterval = 1 << 18 // units of work, each of a few nanoseconds, between two checks of the context

// work counts n units of work. It returns false if the walk must stop.
func (w *walk) work(n int) bool {
	w.sinceCheck += int64(n)
	if w.sinceCheck >= checkInterval {
		w.sinceCheck = 0
		w.fail(canceled.Err(w.ctx))
	}
	return w.err == nil
}

// visit counts a value that rows may share. It returns false if the walk must stop.
func (w *walk) visit() bool {
	w.visited++
	w.sinceCheck++
	return w.visited <= w.limit && w.sinceCheck < checkInterval && w.err == nil || w.mayContinue()
}

func (w *walk) mayContinue() bool {
	if w.visited > w.limit {
		w.fail(w.tooLarge())
	}
	return w.work(0)
}

// validate validates an array, its children and its dictionary. It works in short steps, so that the walk can stop.
func (w *walk) validate(d arrow.ArrayData) {
	const partRows = 1 << 16
	dt, shallow := storageType(d.DataType()), withoutChildren(d)
	defer shallow.Release()
	step, isRuns := partRows, dt.ID() == arrow.RUN_END_ENCODED
	if isRuns { // validating a slice would validate all runs
		step = max(1, d.Len())
	}
	all := array.MakeFromData(shallow)
	defer all.Release()
	w.sumViews(all)
	for from := 0; w.err == nil && (from == 0 || from < d.Len()); from += step {
		a := array.NewSlice(all, int64(from), int64(min(from+step, d.Len())))
		w.work(100 + a.Len())
		w.fail(array.ValidateFull(a))
		w.validateTexts(a, dt.ID(), from)
		a.Release()
	}
	if bitmap := shallow.Buffers(); w.err == nil && d.NullN() != 0 && d.NullN() != array.UnknownNullCount && dt.ID() != arrow.NULL &&
		(bitmap[0] == nil || d.NullN() != d.Len()-bitutil.CountSetBits(bitmap[0].Bytes(), d.Offset(), d.Len())) {
		w.fail(fmt.Errorf("it claims %d nulls, but has a different number of nulls", d.NullN()))
	}
	for _, child := range d.Children() {
		if dt.ID() == arrow.STRUCT && child.Len() < d.Offset()+d.Len() {
			w.fail(fmt.Errorf("it has %d rows, but a field with %d", d.Offset()+d.Len(), child.Len()))
		}
		if w.err == nil && (!isRuns || d.Len() > 0) {
			w.validate(child)
		}
	}
	if dictionary, ok := d.Dictionary().(*array.Data); ok && dictionary != nil && w.err == nil && w.isNew(dictionary) {
		w.validate(dictionary)
	}
}

// isNew reports whether a dictionary has not been checked yet. A nested dictionary always counts as new, because the
// dictionaries in it can change.
func (w *walk) isNew(dictionary *array.Data) bool {
	known := w.known[dictionary] || w.seen[dictionary]
	w.seen[dictionary] = true
	return !known || len(dictionary.Children()) > 0 || dictionary.DataType().Layout().HasDict
}

// sumViews compares the total length of an array's views with the limit, because a few bytes can refer to many long
// texts.
func (w *walk) sumViews(a arrow.Array) {
	views, ok := a.(*array.BinaryView)
	for i := 0; ok && i < views.Len() && w.work(1); i++ {
		if n := views.ValueHeader(i).Len(); n > 0 && views.IsValid(i) {
			w.viewed += int64(n)
		}
		if w.viewed > w.limit {
			w.fail(w.tooLarge())
		}
	}
}

// validateTexts checks part of an array whose type was id before withoutChildren turned its texts into binary values.
func (w *walk) validateTexts(a arrow.Array, id arrow.Type, from int) {
	values, ok := a.(interface{ Value(int) []byte })
	if !ok || w.err != nil || id == a.DataType().ID() || a.Len() == 0 {
		return
	}
	switch a := a.(type) { // checking all texts at once is faster than checking each
	case *array.Binary:
		ok = startRunes(a.ValueBytes(), a.ValueOffsets()) && w.isText(a.ValueBytes())
	case *array.LargeBinary:
		ok = startRunes(a.ValueBytes(), a.ValueOffsets()) && w.isText(a.ValueBytes())
	default:
		ok = false
	}
	for i := 0; !ok && i < a.Len() && w.err == nil; i++ {
		if a.IsValid(i) && !w.isText(values.Value(i)) {
			w.fail(fmt.Errorf("row %d: the text is not valid UTF-8", from+i))
		}
	}
}

// startRunes reports whether none of the offsets in b is within an encoded character. b begins at the first offset.
func startRunes[T int32 | int64](b []byte, offsets []T) bool {
	for _, o := range offsets {
		if i := int(o - offsets[0]); i < len(b) && !utf8.RuneStart(b[i]) {
			return false
		}
	}
	return true
}

// isText reports whether b is valid UTF-8. If the walk must stop, the result is meaningless.
func (w *walk) isText(b []byte) bool {
	const short, size = 64, 1 << 18
	for len(b) > size && w.work(size) {
		n := size
		for n > size-utf8.UTFMax && !utf8.RuneStart(b[n]) {
			n--
		}
		if !utf8.Valid(b[:n]) {
			return false
		}
		b = b[n:]
	}
	return len(b) > short && !w.work(len(b)) || utf8.Valid(b)
}

// withoutChildren returns an array whose validation reads only the array itself: its children and its dictionary
// contain only nulls, and its texts are binary values. withoutChildren also adds buffers that streams omit and removes
// the run that some writers put into an empty run-end-encoded array.
func withoutChildren(d arrow.ArrayData) arrow.ArrayData {
	dt, buffers, children := storageType(d.DataType()), d.Buffers(), make([]arrow.ArrayData, len(d.Children()))
	for i, child := range d.Children() {
		children[i] = nulls(child.Len())
	}
	switch t := dt.(type) {
	case *arrow.NullType:
		buffers = []*memory.Buffer{nil}
	case *arrow.StringType:
		dt = arrow.BinaryTypes.Binary
	case *arrow.LargeStringType:
		dt = arrow.BinaryTypes.LargeBinary
	case *arrow.StringViewType:
		dt = arrow.BinaryTypes.BinaryView
	case *arrow.ListType, *arrow.MapType:
		dt = arrow.ListOf(arrow.Null)
	case *arrow.LargeListType:
		dt = arrow.LargeListOf(arrow.Null)
	case *arrow.ListViewType:
		dt = arrow.ListViewOf(arrow.Null)
	case *arrow.LargeListViewType:
		dt = arrow.LargeListViewOf(arrow.Null)
	case *arrow.FixedSizeListType:
		dt = arrow.FixedSizeListOf(t.Len(), arrow.Null)
	case *arrow.StructType:
		// with children, the validation would take time in proportion to their number squared
		dt, children = arrow.StructOf(), nil
	case arrow.UnionType:
		fields := t.Fields()
		for i := range fields {
			fields[i].Type = arrow.Null
		}
		dt = arrow.UnionOf(t.Mode(), fields, t.TypeCodes())
		if t.Mode() == arrow.DenseMode && d.Len() == 0 && len(buffers) == 3 && buffers[2] == nil {
			buffers = []*memory.Buffer{buffers[0], buffers[1], memory.NewBufferBytes(nil)}
		}
	case *arrow.RunEndEncodedType:
		dt, children[0] = arrow.RunEndEncodedOf(t.RunEnds(), arrow.Null), array.NewSliceData(d.Children()[0], 0, int64(min(d.Len(), d.Children()[0].Len())))
		defer children[0].Release()
	case *arrow.DictionaryType:
		if dictionary, ok := d.Dictionary().(*array.Data); ok && dictionary != nil {
			dt = &arrow.DictionaryType{IndexType: t.IndexType, ValueType: arrow.Null}
			return array.NewDataWithDictionary(dt, d.Len(), buffers, d.NullN(), d.Offset(), nulls(dictionary.Len()))
		}
	}
	return array.NewData(dt, d.Len(), buffers, children, d.NullN(), d.Offset())
}

func nulls(n int) *array.Data {
	return array.NewData(arrow.Null, n, []*memory.Buffer{nil}, nil, n, 0)
}
