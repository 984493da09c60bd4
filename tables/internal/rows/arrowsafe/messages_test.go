package arrowsafe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

var codes = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}

// allLayouts is a schema with one column for each of Arrow's memory layouts.
var allLayouts = arrow.NewSchema([]arrow.Field{
	{Name: "null", Type: arrow.Null, Nullable: true},
	{Name: "bool", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "int8", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
	{Name: "float64", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "decimal", Type: &arrow.Decimal128Type{Precision: 30, Scale: 2}, Nullable: true},
	{Name: "time", Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Oslo"}, Nullable: true},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "large", Type: arrow.BinaryTypes.LargeString, Nullable: true},
	{Name: "view", Type: arrow.BinaryTypes.StringView, Nullable: true},
	{Name: "fixed", Type: &arrow.FixedSizeBinaryType{ByteWidth: 3}, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Int16), Nullable: true},
	{Name: "large list", Type: arrow.LargeListOf(arrow.BinaryTypes.String), Nullable: true},
	{Name: "list view", Type: arrow.ListViewOf(arrow.PrimitiveTypes.Int32), Nullable: true},
	{Name: "vector", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), Nullable: true},
	{Name: "struct", Type: arrow.StructOf(
		arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.StringView), Nullable: true},
		arrow.Field{Name: "c", Type: codes, Nullable: true},
	), Nullable: true},
	{Name: "map", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
	{Name: "dictionary", Type: codes, Nullable: true},
	{Name: "runs", Type: arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), Nullable: true},
}, nil)

const allLayoutRows = `[
	{"bool": true, "int8": -1, "float64": 1.5, "decimal": "12.34", "time": 5, "text": "a", "large": "bb",
	 "view": "a text that is longer than a view", "fixed": "YWJj", "list": [1, null, 3], "large list": ["x", null], "list view": [1, 2],
	 "vector": [1, 2], "struct": {"a": 1, "b": ["another text that is longer than a view", null], "c": "c"},
	 "map": [{"key": "k", "value": 1}], "dictionary": "yes", "runs": "r"},
	{},
	{"bool": false, "text": "", "list": [], "dictionary": "no", "runs": "r", "list view": [], "map": []}
]`

func rowsOf(t testing.TB, schema *arrow.Schema, rows string) arrow.RecordBatch {
	t.Helper()
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
	must.Do(t, err)
	return b
}

func streamOf(t testing.TB, batches []arrow.RecordBatch, options ...ipc.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(options, ipc.WithSchema(batches[0].Schema()))...)
	for _, b := range batches {
		must.Do(t, w.Write(b))
	}
	must.Do(t, w.Close())
	return out.Bytes()
}

// readAll reads and checks a stream as the store does.
func readAll(stream []byte, limit int64) (batches []arrow.RecordBatch, err error) {
	r, err := NewReader(bytes.NewReader(stream), int64(len(stream)), limit)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	checker := Checker{Limit: limit}
	for r.Next() {
		if _, err := checker.Check(context.Background(), r.RecordBatch()); err != nil {
			return nil, err
		}
		r.RecordBatch().Retain()
		batches = append(batches, r.RecordBatch())
	}
	return batches, r.Err()
}

func TestValidStreams(t *testing.T) {
	b := rowsOf(t, allLayouts, allLayoutRows)
	noViews := rowsOf(t, arrow.NewSchema(slices.DeleteFunc(allLayouts.Fields(), func(f arrow.Field) bool {
		return f.Name == "list view" // Arrow's writer cannot write a slice of a list view
	}), nil), allLayoutRows)
	for name, batches := range map[string][]arrow.RecordBatch{
		"rows": {b}, "two batches": {b, b}, "a slice": {noViews.NewSlice(1, 3)}, "no rows": {noViews.NewSlice(0, 0)},
		"without columns": {array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 3)},
	} {
		for _, options := range [][]ipc.Option{nil, {ipc.WithZstd()}, {ipc.WithLZ4()}, {ipc.WithDictionaryDeltas(true)}} {
			got, err := readAll(streamOf(t, batches, options...), 1<<20)
			if err != nil || len(got) != len(batches) {
				t.Fatalf("%s: got %d batches, error %v, want %d batches", name, len(got), err, len(batches))
			}
			for i, b := range got {
				if !array.RecordEqual(b, batches[i]) {
					t.Errorf("%s: got %v, want %v", name, b, batches[i])
				}
			}
		}
	}
}

// TestOldStreams checks that streams of Arrow versions before 0.15, which do not mark messages, are read, and
// that streams of versions before 0.8 are refused.
func TestOldStreams(t *testing.T) {
	b := rowsOf(t, allLayouts, allLayoutRows)
	messages := messagesOf(t, streamOf(t, []arrow.RecordBatch{b, b}))
	unmarked := func() (stream []byte) {
		for _, m := range messages {
			stream = binary.LittleEndian.AppendUint32(stream, uint32(len(m.head)))
			stream = append(append(stream, m.head...), m.body...)
		}
		return append(stream, 0, 0, 0, 0)
	}
	if got, err := readAll(unmarked(), 1<<20); err != nil || len(got) != 2 || !array.RecordEqual(got[1], b) {
		t.Errorf("unmarked stream: got %d batches, error %v, want the 2 batches that were written", len(got), err)
	}
	root := flatbuffers.Table{Bytes: messages[0].head, Pos: flatbuffers.GetUOffsetT(messages[0].head)}
	root.Bytes[root.Pos+flatbuffers.UOffsetT(root.Offset(messageVersion))] = version4 - 1
	for _, stream := range [][]byte{unmarked(), joinMessages(messages)} {
		if _, err := readAll(stream, 1<<20); err == nil || !strings.Contains(err.Error(), "version V3 of the format") {
			t.Errorf("stream of version V3: got error %v, want an error about the version", err)
		}
	}
}

type message struct{ head, body []byte }

func messagesOf(t testing.TB, stream []byte) (all []message) {
	t.Helper()
	for len(stream) > 8 {
		n := binary.LittleEndian.Uint32(stream[4:])
		head := stream[8 : 8+n]
		d := must.Get(describe(head))(t)
		all = append(all, message{bytes.Clone(head), bytes.Clone(stream[8+int64(n) : 8+int64(n)+d.body])})
		stream = stream[8+int64(n)+d.body:]
	}
	return all
}

func joinMessages(messages []message) (stream []byte) {
	for _, m := range messages {
		stream = append(stream, 0xff, 0xff, 0xff, 0xff)
		stream = binary.LittleEndian.AppendUint32(stream, uint32(len(m.head)))
		stream = append(append(stream, m.head...), m.body...)
	}
	return append(stream, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
}

func (m message) header(t testing.TB) flatbuffers.Table {
	t.Helper()
	d := must.Get(describe(m.head))(t)
	return d.header
}

func (m message) element(t testing.TB, slot flatbuffers.VOffsetT, i int) []byte {
	t.Helper()
	h := m.header(t)
	start, _, err := vector(h, slot, 8)
	if err != nil || start == 0 {
		t.Fatalf("the message has no vector in slot %d: %v", slot, err)
	}
	return h.Bytes[int(start)+8*i:]
}

func put64(at []byte, n int64) { binary.LittleEndian.PutUint64(at, uint64(n)) }

// TestFalseClaims checks that a message that claims more data than it contains is refused, without
// allocating memory for it.
func TestFalseClaims(t *testing.T) {
	messagesWith := func(dt arrow.DataType, rows string) []message {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
		return messagesOf(t, streamOf(t, []arrow.RecordBatch{rowsOf(t, schema, rows)}))
	}
	const long = `[{"x": "a text that is longer than a view"}]`
	with := func(dt arrow.DataType, rows string, change func(last message)) func() []message {
		return func() []message {
			m := messagesWith(dt, rows)
			change(m[len(m)-1])
			return m
		}
	}
	setRows := func(m message, n int64) {
		h := m.header(t)
		put64(h.Bytes[h.Pos+flatbuffers.UOffsetT(h.Offset(batchLength)):], n)
	}
	for name, falseMessages := range map[string]func() []message{
		"buffers of a view":          with(arrow.BinaryTypes.StringView, long, func(m message) { put64(m.element(t, batchVariadic, 0), 1<<36) }),
		"negative buffers of a view": with(arrow.BinaryTypes.StringView, long, func(m message) { put64(m.element(t, batchVariadic, 0), -2) }),
		"rows of nulls": with(arrow.Null, `[{}]`, func(m message) {
			setRows(m, 1<<53)
			put64(m.element(t, batchNodes, 0), 1<<53)
		}),
		"rows of bools":             with(arrow.FixedWidthTypes.Boolean, `[{"x": true}]`, func(m message) { put64(m.element(t, batchNodes, 0), 1<<20) }),
		"more rows than values":     with(arrow.PrimitiveTypes.Int64, `[{"x": 1}]`, func(m message) { setRows(m, 2) }),
		"fewer rows than values":    with(arrow.PrimitiveTypes.Int64, `[{"x": 1}, {"x": 2}]`, func(m message) { setRows(m, 1) }),
		"negative rows":             with(arrow.PrimitiveTypes.Int64, `[{"x": 1}]`, func(m message) { put64(m.element(t, batchNodes, 0), -1) }),
		"a buffer outside the body": with(arrow.PrimitiveTypes.Int64, `[{"x": 1}]`, func(m message) { put64(m.element(t, batchBuffers, 2), 1<<40) }),
		"a buffer's length":         with(arrow.PrimitiveTypes.Int64, `[{"x": 1}]`, func(m message) { put64(m.element(t, batchBuffers, 3), 1<<62) }),
		"too few offsets":           with(arrow.BinaryTypes.String, `[{"x": "a"}]`, func(m message) { put64(m.element(t, batchBuffers, 3), 4) }),
		"a body's length": with(arrow.PrimitiveTypes.Int64, `[{"x": 1}]`, func(m message) {
			root := flatbuffers.Table{Bytes: m.head, Pos: flatbuffers.GetUOffsetT(m.head)}
			put64(root.Bytes[root.Pos+flatbuffers.UOffsetT(root.Offset(messageBody)):], 1<<35)
		}),
		"runs": with(arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String), `[{"x": "r"}]`, func(m message) { put64(m.element(t, batchNodes, 0), 1<<40) }),
		"a repeated dictionary": func() []message {
			schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: codes, Nullable: true}}, nil)
			m := messagesOf(t, streamOf(t, []arrow.RecordBatch{
				rowsOf(t, schema, `[{"x": "a"}]`), rowsOf(t, schema, `[{"x": "a"}, {"x": "`+strings.Repeat("x", 100_000)+`"}]`),
			}, ipc.WithDictionaryDeltas(true)))
			if h := m[3].header(t); !h.GetBoolSlot(dictionaryDelta, false) {
				t.Fatal("the writer did not write a dictionary delta")
			}
			for range 20 {
				m = append(m, m[3])
			}
			m = append(m, m[4])
			return m
		},
		"a dictionary's value for each row": func() []message {
			return messagesWith(codes, "["+strings.Repeat(`{"x": "`+strings.Repeat("x", 100_000)+`"},`, 99)+`{"x": null}]`)
		},
		"rows of wide values": with(&arrow.FixedSizeBinaryType{ByteWidth: 1 << 16}, `[{}]`, func(m message) {
			setRows(m, 1<<48) // The size in bytes overflows to 0.
			node := m.element(t, batchNodes, 0)
			put64(node, 1<<48)
			put64(node[8:], 0) // no nulls
		}),
		"rows of wide lists": with(arrow.FixedSizeListOf(1<<16, arrow.PrimitiveTypes.Int8), `[{}]`, func(m message) {
			setRows(m, 1<<48)
			node := m.element(t, batchNodes, 0)
			put64(node, 1<<48)
			put64(node[8:], 0) // no nulls
		}),
		"a wide value": func() []message {
			return messagesWith(&arrow.FixedSizeBinaryType{ByteWidth: 1 << 30}, `[]`)
		},
		"a wide list": func() []message {
			return messagesWith(arrow.FixedSizeListOf(1<<20, arrow.FixedSizeListOf(1<<20, arrow.PrimitiveTypes.Int8)), `[]`)
		},
	} {
		stream := joinMessages(falseMessages())
		before := allocated()
		_, err := readAll(stream, 1<<20)
		if allocatedBytes := allocated() - before; err == nil || allocatedBytes > 16<<20 {
			t.Errorf("%s: allocated %d bytes, error %v, want at most 16 MiB and an error", name, allocatedBytes, err)
		}
		for _, err = range Forward(bytes.NewReader(stream), 1<<20) {
		}
		if err == nil && name != "a dictionary's value for each row" {
			t.Errorf("%s: Forward accepts the messages", name)
		}
	}
}

// TestSharedMetadataTexts checks that a message whose metadata entries all refer to one long text is refused,
// because Arrow's reader would copy the text for each entry.
func TestSharedMetadataTexts(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	text := b.CreateString(strings.Repeat("x", 1<<20))
	b.StartObject(2)
	b.PrependUOffsetTSlot(0, text, 0)
	b.PrependUOffsetTSlot(1, text, 0)
	note := b.EndObject()
	const notes = 1 << 16
	b.StartVector(4, notes, 4)
	for range notes {
		b.PrependUOffsetT(note)
	}
	all := b.EndVector(notes)
	b.StartObject(5) // an empty batch
	batch := b.EndObject()
	b.StartObject(5)
	b.PrependInt16Slot(0, version5, 0)
	b.PrependByteSlot(1, typeBatch, 0)
	b.PrependUOffsetTSlot(2, batch, 0)
	b.PrependUOffsetTSlot(4, all, 0)
	b.Finish(b.EndObject())
	m := messagesOf(t, streamOf(t, []arrow.RecordBatch{array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 0)}))
	stream := joinMessages([]message{m[0], {head: b.FinishedBytes()}})
	before := allocated()
	if _, err := readAll(stream, 1<<24); err == nil || allocated()-before > 64<<20 {
		t.Errorf("allocated %d bytes, error %v, want at most 64 MiB and an error", allocated()-before, err)
	}
}

// TestTruncatedStreams checks that a stream that ends within a message is an error, not a shorter stream.
func TestTruncatedStreams(t *testing.T) {
	b := rowsOf(t, allLayouts, allLayoutRows)
	stream := streamOf(t, []arrow.RecordBatch{b, b})
	ends := map[int]bool{}
	offset := 0
	for _, m := range messagesOf(t, stream) {
		offset += 8 + len(m.head) + len(m.body)
		ends[offset] = true
	}
	for cut := 1; cut < len(stream)-8; cut++ {
		if _, err := readAll(stream[:cut], 1<<20); err == nil && !ends[cut] {
			t.Errorf("stream cut after %d of %d bytes: got no error", cut, len(stream))
		} else if err != nil && errors.Is(err, io.EOF) && cut > 8 && !ends[cut] {
			t.Errorf("stream cut after %d bytes: got error %v, want an error other than io.EOF", cut, err)
		}
	}
}

// TestLimits checks that messages that need exactly the limit are accepted, and that a lower limit refuses them.
func TestLimits(t *testing.T) {
	column := func(dt arrow.DataType, rows string) arrow.RecordBatch {
		return rowsOf(t, arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt}}, nil), rows)
	}
	dictionary := column(codes, `[{"x": "a"}, {"x": "b"}]`)
	values := int64(len(messagesOf(t, streamOf(t, []arrow.RecordBatch{dictionary}))[1].body))
	for name, c := range map[string]struct {
		batch arrow.RecordBatch
		limit int64
	}{
		"nulls":             {column(arrow.Null, "["+strings.Repeat("{},", 999)+"{}]"), 8 * 1000},
		"compressed values": {column(arrow.PrimitiveTypes.Int64, "["+strings.Repeat(`{"x": 7},`, 999)+`{"x": 7}]`), 8 * 1000},
		"dictionary":        {dictionary, values},
	} {
		var options []ipc.Option
		if name == "compressed values" {
			options = append(options, ipc.WithZstd())
		}
		for _, limit := range []int64{c.limit, c.limit - 1} {
			checks, err, rows := NewMessages(limit), error(nil), int64(0)
			for _, m := range messagesOf(t, streamOf(t, []arrow.RecordBatch{c.batch}, options...)) {
				err = errors.Join(err, checks.Check(m.head, m.body))
				rows += Message{Header: m.head}.Rows()
			}
			if (err == nil) != (limit == c.limit) || err != nil && !errors.Is(err, partd.ErrTooLarge) || rows != c.batch.NumRows() {
				t.Errorf("%s that need %d bytes, limit %d: %d rows, error %v", name, c.limit, limit, rows, err)
			}
		}
	}
}
