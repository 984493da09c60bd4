package flightd

import (
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// ingestCommand returns a Flight SQL command that puts rows into a table.
func ingestCommand(t *testing.T, name string) string {
	t.Helper()
	message := must.Get(anypb.New(&pb.CommandStatementIngest{Table: name}))(t)
	command := must.Get(proto.Marshal(message))(t)
	return string(command)
}

// falseSize is a put's stream that claims size as the decompressed size of each batch's first buffer.
type falseSize struct {
	flight.FlightService_DoPutClient
	size uint64
}

func (s falseSize) Send(d *flight.FlightData) error {
	if len(d.DataBody) >= 8 {
		d.DataBody = append([]byte(nil), d.DataBody...)
		binary.LittleEndian.PutUint64(d.DataBody, s.size)
	}
	return s.FlightService_DoPutClient.Send(d)
}

// TestFalseDecompressedSize checks that a put fails if a batch claims a decompressed size above the memory limit.
func TestFalseDecompressedSize(t *testing.T) {
	_, store, address := serveTest(t, nil)
	c := dialTest(t, address)
	for _, command := range []string{`{"name":"t"}`, `{"partd":"put","name":"t"}`, ingestCommand(t, "t")} {
		for _, size := range []uint64{1 << 40, 1 << 62, 1<<64 - 2, 1 << 30} {
			st, err := c.DoPut(t.Context())
			must.Do(t, err)
			w := flight.NewRecordWriter(falseSize{st, size}, ipc.WithSchema(floats), ipc.WithZstd())
			w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(command)})
			if err := errors.Join(w.Write(floatBatch(1000)), w.Close(), st.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for err == nil { // ingestion first reports zero rows
				_, err = st.Recv()
			}
			if errors.Is(err, io.EOF) || status.Code(err) == codes.Unavailable {
				t.Errorf("put %.20q of a buffer that claims %d bytes: got %v, want an error that fails only the call", command, size, err)
			}
		}
	}
	if _, err := store.Bucket("").Table("t").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after refused puts, Table = %v, want ErrNotFound", err)
	}
	if err := putTest(t.Context(), c, `{"name":"t"}`, 1, 1); err != nil {
		t.Error(err)
	}
}

// TestNamesThatAreNotUTF8 checks that names that are not UTF-8 are refused, because JSON would turn different
// names into the same name.
func TestNamesThatAreNotUTF8(t *testing.T) {
	_, store, address := serveTest(t, nil)
	c := dialTest(t, address)
	for _, command := range []string{"{\"name\":\"\xff\"}", "{\"partd\":\"put\",\"name\":\"\xff\"}"} {
		if err := putTest(t.Context(), c, command, 1, 1); err == nil {
			t.Errorf("a put with the command %q succeeded, want an error", command)
		}
	}
	for info, err := range store.Bucket("").Tables(t.Context(), nil) {
		t.Errorf("a refused put created table %q (%v)", info.Name, err)
	}
}

// TestTransformationsUseSlots checks that each transformation uses a slot for queries and a slot for puts, and
// concurrent transformations do not deadlock.
func TestTransformationsUseSlots(t *testing.T) {
	s, _, address := serveTest(t, &Options{Queries: 1, Puts: 1})
	c := dialTest(t, address)
	must.Do(t, putTest(t.Context(), c, `{"name":"t"}`, 1, 10))
	ctx, end := s.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "")
	defer end(nil)
	release := must.Get(serving.AcquireQuery(ctx))(t)
	const calls = 6
	done := make(chan error, calls)
	for i := range calls {
		go func() {
			kind, body := "combine", `{"sources":["t","t"],"target":"u","how":"union"}`
			if i%2 == 0 {
				kind, body = "partd.combine", `{"Sources":[{"Name":"t"},{"Name":"t"}],"Target":{"Name":"u"},"Mode":1,"How":"union"}`
			}
			_, err := doAction(t.Context(), c, kind, body)
			done <- err
		}()
	}
	waitFor(t, "the transformations do not wait for a query slot", func() bool { _, waiting := s.Queries.Counts(); return waiting == calls })
	release()
	for range calls {
		if err := <-done; err == nil || !strings.Contains(err.Error(), "Options.Engine") { // this server has no SQL engine
			t.Errorf("a transformation on a server without an engine returned %v, want an error about Options.Engine", err)
		}
	}
}

// TestLongErrors checks that errors that quote long names fit into the trailers that clients accept.
func TestLongErrors(t *testing.T) {
	_, _, address := serveTest(t, nil)
	c := dialTest(t, address)
	for kind, body := range map[string]string{
		"delete":         `{"name":"` + strings.Repeat("ä", 100) + `","bucket":"` + strings.Repeat("b", 20_000) + `"}`,
		"resample":       `{"source":"t","mode":"` + strings.Repeat("m", 20_000) + `"}`,
		"partd.describe": `{"name":"` + strings.Repeat("n", 20_000) + `"}`,
	} {
		st, err := c.DoAction(t.Context(), &flight.Action{Type: kind, Body: []byte(body)})
		if err == nil {
			_, err = st.Recv()
		}
		size := len(status.Convert(err).Message())
		for _, values := range st.Trailer() {
			size += len(strings.Join(values, ""))
		}
		if err == nil || size > 6<<10 {
			t.Errorf("%s: got an error of %d bytes, want at most 6 KiB: %v", kind, size, err)
		}
	}
}

// TestRowsLargerThanMessages checks that the memory limit counts dictionaries and nulls at the size of their
// values, which may exceed the size of their messages, and that a put above the limit fails.
func TestRowsLargerThanMessages(t *testing.T) {
	_, store, address := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 16 << 20})
	c := dialTest(t, address)
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	texts.Append(strings.Repeat("x", 1<<20))
	indices := array.NewInt16Builder(memory.DefaultAllocator)
	indices.AppendValues(make([]int16, 16_384), nil)
	dictionaryType := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}
	for name, column := range map[string]arrow.Array{"dictionary": array.NewDictionaryArray(dictionaryType, indices.NewArray(), texts.NewArray()), "nulls": array.NewNull(1 << 53)} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: column.DataType(), Nullable: true}}, nil)
		batch := array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
		for _, command := range []string{`{"name":"t"}`, `{"partd":"put","name":"t"}`, ingestCommand(t, "t")} {
			before := allocated()
			st, err := c.DoPut(t.Context())
			must.Do(t, err)
			w := flight.NewRecordWriter(st, ipc.WithSchema(schema))
			w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(command)})
			if err := errors.Join(w.Write(batch), w.Close(), st.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for err == nil {
				_, err = st.Recv()
			}
			if allocatedBytes := allocated() - before; errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "limit") || allocatedBytes > 128<<20 {
				t.Errorf("put %.20q of %s allocated %d MiB and returned %v, want at most 128 MiB and an error about the limit", command, name, allocatedBytes>>20, err)
			}
		}
	}
	if _, err := store.Bucket("").Table("t").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after refused puts, Table = %v, want ErrNotFound", err)
	}
	if err := putTest(t.Context(), c, `{"name":"t"}`, 1, 1); err != nil {
		t.Error(err)
	}
}

// allocated returns how many bytes the process has allocated in total.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// TestLongRequests checks that requests with long arguments are refused, or answered in memory proportional to
// their length.
func TestLongRequests(t *testing.T) {
	_, _, address := serveTest(t, nil)
	c := dialTest(t, address)
	long := strings.Repeat("a?", 100_000)
	st, err := c.ListFlights(t.Context(), &flight.Criteria{Expression: []byte(`{"regex":"` + long + `"}`)})
	if err == nil {
		_, err = st.Recv()
	}
	if err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("ListFlights with a long pattern = %.200v, want an error about the limit", err)
	}
	sql := &flightsql.Client{Client: c}
	tables, err := sql.GetTables(t.Context(), &flightsql.GetTablesOpts{TableNameFilterPattern: &long})
	if err == nil {
		var r *flight.Reader
		if r, err = sql.DoGet(t.Context(), tables.Endpoint[0].Ticket); err == nil {
			r.Next()
			err = r.Err()
			r.Release()
		}
	}
	if err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("GetTables with a long pattern = %.200v, want an error about the limit", err)
	}
	ids := make([]flightsql.SqlInfo, 200_000)
	info := must.Get(sql.GetSqlInfo(t.Context(), ids))(t)
	before := allocated()
	r := must.Get(sql.DoGet(t.Context(), info.Endpoint[0].Ticket))(t)
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if allocatedBytes := allocated() - before; rows != 1 || allocatedBytes > 32<<20 || r.Err() != nil {
		t.Errorf("GetSqlInfo of 200,000 ids returned %d rows and allocated %d bytes, error %v; want 1 row and at most 32 MiB", rows, allocatedBytes, r.Err())
	}
}
