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
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// packedCommand returns a Flight SQL command as bytes.
func packedCommand(t *testing.T, m proto.Message) []byte {
	t.Helper()
	packed := must.Get(anypb.New(m))(t)
	return must.Get(proto.Marshal(packed))(t)
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

// TestRowsLargerThanMessages checks that a put fails if its rows exceed the memory limit, however small its messages
// are: if a batch claims a large decompressed size, and with dictionaries and nulls, which count at the size of their
// values.
func TestRowsLargerThanMessages(t *testing.T) {
	_, store, address := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 16 << 20})
	c := dialTest(t, address)
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	texts.Append(strings.Repeat("x", 1<<20))
	indices := array.NewInt16Builder(memory.DefaultAllocator)
	indices.AppendValues(make([]int16, 16_384), nil)
	dictionaryType := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}
	batchOf := func(column arrow.Array) arrow.RecordBatch {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: column.DataType(), Nullable: true}}, nil)
		return array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
	}
	for _, h := range []struct {
		name        string
		batch       arrow.RecordBatch
		claimedSize uint64 // 0 means that the batch is not compressed
		want        string
	}{
		{"dictionary", batchOf(array.NewDictionaryArray(dictionaryType, indices.NewArray(), texts.NewArray())), 0, "limit"},
		{"nulls", batchOf(array.NewNull(1 << 53)), 0, "limit"},
		{"1 GiB", floatBatch(1000), 1 << 30, ""},
		{"1 TiB", floatBatch(1000), 1 << 40, ""},
		{"4 EiB", floatBatch(1000), 1 << 62, ""},
		{"a negative size", floatBatch(1000), 1<<64 - 2, ""},
	} {
		for _, command := range []string{`{"name":"t"}`, `{"partd":"put","name":"t"}`, string(packedCommand(t, &pb.CommandStatementIngest{Table: "t"}))} {
			before := allocated()
			st, err := c.DoPut(t.Context())
			must.Do(t, err)
			options := []ipc.Option{ipc.WithSchema(h.batch.Schema())}
			if h.claimedSize > 0 {
				st, options = falseSize{st, h.claimedSize}, append(options, ipc.WithZstd())
			}
			w := flight.NewRecordWriter(st, options...)
			w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(command)})
			if err := errors.Join(w.Write(h.batch), w.Close(), st.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for err == nil { // ingestion first reports zero rows
				_, err = st.Recv()
			}
			if errors.Is(err, io.EOF) || status.Code(err) == codes.Unavailable || !strings.Contains(err.Error(), h.want) {
				t.Errorf("put %.20q of %s: got %v, want an error %s that fails only the call", command, h.name, err, h.want)
			}
			if allocatedBytes := allocated() - before; allocatedBytes > 128<<20 {
				t.Errorf("put %.20q of %s allocated %d MiB, want at most 128", command, h.name, allocatedBytes>>20)
			}
		}
	}
	must.Fail(t, must.Err(store.Bucket("").Table("t").Info(t.Context())), tables.ErrNotFound, "after refused puts, Table")
	must.Do(t, putTest(t.Context(), c, `{"name":"t"}`, 1, 1))
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
	rows, err := tabletest.CountRows(must.Get(sql.DoGet(t.Context(), info.Endpoint[0].Ticket))(t))
	if allocatedBytes := allocated() - before; rows != 1 || allocatedBytes > 32<<20 || err != nil {
		t.Errorf("GetSqlInfo of 200,000 ids returned %d rows and allocated %d bytes, error %v; want 1 row and at most 32 MiB", rows, allocatedBytes, err)
	}
}
