package flightd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// columnsToMutate returns columns with all layouts of Arrow.
func columnsToMutate() *arrow.Schema {
	number, text := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	types := []arrow.DataType{
		number, text, arrow.FixedWidthTypes.Boolean, arrow.Null, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		&arrow.Decimal128Type{Precision: 10, Scale: 2}, &arrow.Decimal128Type{Precision: 38, Scale: 2}, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, arrow.FixedWidthTypes.Date64, arrow.FixedWidthTypes.Float16,
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: text}, arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, number),
		arrow.ListOf(arrow.PrimitiveTypes.Int32), arrow.ListOfField(arrow.Field{Name: "item", Type: text}), arrow.LargeListOf(text), arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int16),
		arrow.MapOf(text, number), arrow.StructOf(arrow.Field{Name: "a", Type: number}, arrow.Field{Name: "l", Type: arrow.ListOf(number), Nullable: true}),
	}
	fields := make([]arrow.Field, len(types))
	for i, t := range types {
		fields[i] = arrow.Field{Name: fmt.Sprint("c", i), Type: t, Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

// messagesOf returns the messages of a put of some random columns.
func messagesOf(t *testing.T, r *rand.Rand, columns *arrow.Schema) []*flight.FlightData {
	t.Helper()
	fields := columns.Fields()
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	columns = arrow.NewSchema(fields[:1+r.IntN(4)], nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	for i, field := range columns.Fields() {
		for range 20 {
			appendRandom(r, b.Field(i), field.Nullable)
		}
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	var rows bytes.Buffer
	options := []ipc.Option{ipc.WithSchema(columns)}
	switch r.IntN(4) {
	case 0:
		options = append(options, ipc.WithLZ4())
	case 1:
		options = append(options, ipc.WithZstd())
	}
	w := ipc.NewWriter(&rows, options...)
	must.Do(t, errors.Join(w.Write(batch), w.Write(batch.NewSlice(3, 9)), w.Close()))
	return flightMessages(t, &rows)
}

// flightMessages returns the messages in a stream.
func flightMessages(t *testing.T, stream io.Reader) (all []*flight.FlightData) {
	t.Helper()
	for m, err := range arrowsafe.Forward(stream, 1<<20) {
		must.Do(t, err)
		all = append(all, &flight.FlightData{DataHeader: bytes.Clone(m.Header), DataBody: bytes.Clone(m.Body)})
	}
	return all
}

// appendRandom appends a random value.
func appendRandom(r *rand.Rand, b array.Builder, nullable bool) {
	if nullable && r.IntN(4) == 0 {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			appendRandom(r, b.FieldBuilder(i), b.Type().(*arrow.StructType).Field(i).Nullable)
		}
	case *array.MapBuilder:
		b.Append(true)
		appendRandom(r, b.KeyBuilder(), false)
		appendRandom(r, b.ItemBuilder(), true)
	case *array.FixedSizeListBuilder:
		b.Append(true)
		appendRandom(r, b.ValueBuilder(), true)
		appendRandom(r, b.ValueBuilder(), true)
	case array.ListLikeBuilder:
		b.(interface{ Append(bool) }).Append(true)
		for range r.IntN(4) {
			appendRandom(r, b.ValueBuilder(), b.Type().(arrow.ListLikeType).ElemField().Nullable)
		}
	case *array.RunEndEncodedBuilder:
		b.Append(1)
		appendRandom(r, b.ValueBuilder(), true)
	case *array.NullBuilder:
		b.AppendNull()
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(r.Int64N(9)))
	case *array.Date64Builder:
		b.Append(arrow.Date64(86_400_000 * r.Int64N(9)))
	default:
		text := []string{"0", "1"}[r.IntN(2)]
		if b.Type().ID() == arrow.FIXED_SIZE_BINARY {
			text = "AAAA"
		}
		if err := b.AppendValueFromString(text); err != nil {
			panic(err)
		}
	}
}

// envDuration returns the duration in an environment variable, or d if the variable is not set.
func envDuration(t *testing.T, variable string, d time.Duration) time.Duration {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		return must.Get(time.ParseDuration(text))(t)
	}
	return d
}

// TestMutatedPuts checks that acknowledged rows can be folded and read even if clients put damaged Arrow
// messages. It runs for the duration in PARTD_PUTS, or 2 seconds by default.
func TestMutatedPuts(t *testing.T) {
	duration := envDuration(t, "PARTD_PUTS", 2*time.Second)
	_, store, address := serveTables(t, &tables.Options{FoldAge: -1}, &Options{Memory: 64 << 20, MaxMessage: 8 << 20})
	c := dialTest(t, address)
	r := procs.Rand(t)
	columns := columnsToMutate()
	puts, acknowledged := 0, 0
	for end := time.Now().Add(duration); time.Now().Before(end); puts++ {
		messages := messagesOf(t, r, columns)
		for range 1 + r.IntN(2) {
			m := messages[r.IntN(len(messages))]
			if r.IntN(5) < 3 || len(m.DataBody) == 0 {
				m.DataHeader = mutate(r, m.DataHeader)
			} else {
				m.DataBody = mutate(r, m.DataBody)
			}
		}
		switch index := r.IntN(len(messages)); r.IntN(20) {
		case 0:
			messages = slices.Delete(messages, index, index+1)
		case 1:
			messages = slices.Insert(messages, index, messages[index])
		}
		rows, err := putMessages(t.Context(), c, messages)
		if err != nil {
			continue
		}
		acknowledged++
		if err := foldAndRead(t.Context(), store, rows); err != nil {
			text := &strings.Builder{}
			for _, m := range messages {
				fmt.Fprintf(text, "\n%x %x", m.DataHeader, m.DataBody)
			}
			t.Fatalf("the rows of put %d cannot be folded and read: %v; its messages:%s", puts, err, text)
		}
		must.Do(t, store.Bucket("b").Delete(t.Context(), "t"))
	}
	t.Logf("%d puts, %d acknowledged", puts, acknowledged)
	if acknowledged == 0 {
		t.Error("no put was acknowledged")
	}
}

// putMessages appends the rows in messages to a table. It returns the number of rows that the server reports.
func putMessages(ctx context.Context, c flight.Client, messages []*flight.FlightData) (rows int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	st, err := c.DoPut(ctx)
	if err != nil {
		return 0, err
	}
	for i, m := range messages {
		if i == 0 {
			m.FlightDescriptor = &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"b", "t"}}
		}
		if err := st.Send(m); err != nil {
			break // Recv returns the reason
		}
	}
	_ = st.CloseSend()
	var reply struct{ Rows int64 }
	result, err := st.Recv()
	if err == nil {
		err = json.Unmarshal(result.AppMetadata, &reply)
	}
	return reply.Rows, err
}

// foldAndRead moves the store's rows into data files, and checks the number of rows of table b/t.
func foldAndRead(ctx context.Context, store *tables.Store, rows int64) error {
	if _, err := store.Fold(ctx, nil); err != nil {
		return err
	}
	reader, err := store.Bucket("b").Table("t").Scan(ctx, nil)
	if err != nil {
		return err
	}
	if n, err := tabletest.CountRows(reader); err != nil || n != rows {
		return fmt.Errorf("the table has %d rows, error %w, want %d", n, err, rows)
	}
	return nil
}
