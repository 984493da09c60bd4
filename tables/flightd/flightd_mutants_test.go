package flightd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/protobuf/proto"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// Kinds of calls.
const (
	callGet = iota
	callInfo
	callSchema
	callPoll
	callList
	callAction
	callHandshake
	callPut
	callKinds
)

// mutant is a call: its kind, its command, and its body.
type mutant struct {
	kind          int
	command, body []byte
}

// seeds returns valid calls in the protocol of shoots (another server), in our own protocol, and in Flight SQL.
func seeds(t *testing.T) (all []mutant) {
	t.Helper()
	add := func(kind int, command, body []byte) { all = append(all, mutant{kind, command, body}) }
	var rows bytes.Buffer
	w := ipc.NewWriter(&rows, ipc.WithSchema(floats))
	must.Do(t, errors.Join(w.Write(floatBatch(3)), w.Close()))
	for _, command := range []string{
		`{"name":"t","bucket":"b"}`, `{"name":"t","sql":"select x from t where x > 1"}`, `{"partd":"scan","name":"t","columns":["x"],"limit":1}`,
		`{"partd":"resample","Source":{"Name":"t"},"Rule":"s","TimeColumn":"t","Functions":["size"]}`,
	} {
		add(callGet, []byte(command), nil)
	}
	for _, command := range []string{"", `{"bucket":"b","regex":"t.*"}`} {
		add(callList, []byte(command), nil)
	}
	for _, o := range operations.All() {
		if o == operations.TakeLock.Entry { // this operation waits for other callers
			continue
		}
		add(callAction, []byte(o.Action()), []byte(`{"Name":"t","Bucket":"b","Where":"x > 1","Source":{"Name":"t"},"Target":{"Name":"u"},"Mode":1}`))
	}
	for kind, body := range map[string]string{
		"delete": `{"name":"t","bucket":"b"}`, "buckets": `{}`, "delete_bucket": `{"name":"b","mode":"delete"}`, "ping": "",
		"resample": `{"source":"t","target":"u","rule":"10s","time_col":"x","aggregation_func":"mean"}`,
	} {
		add(callAction, []byte(kind), []byte(body))
	}
	for _, command := range []string{`{"name":"t","mode":"append"}`, `{"partd":"put","name":"t","mode":1}`} {
		add(callPut, []byte(command), rows.Bytes())
	}
	infoID := uint32(1)
	name := "t"
	for _, m := range []proto.Message{
		&pb.CommandStatementQuery{Query: "select 1"}, &pb.CommandGetTables{IncludeSchema: true, TableNameFilterPattern: &name},
		&pb.CommandGetSqlInfo{Info: []uint32{infoID}}, &pb.CommandGetCatalogs{}, &pb.CommandGetDbSchemas{}, &pb.CommandGetPrimaryKeys{Table: name},
		&pb.CommandStatementIngest{Table: name}, &pb.CommandPreparedStatementQuery{PreparedStatementHandle: []byte(`{"sql":"select 1"}`)},
		&pb.CommandStatementUpdate{Query: "delete from t"}, &pb.ActionCreatePreparedStatementRequest{Query: "select 1"},
		&pb.TicketStatementQuery{StatementHandle: []byte(`{"sql":"select 1"}`)},
	} {
		command := packedCommand(t, m)
		add(callInfo, command, nil)
		add(callGet, command, nil)
		add(callPut, command, rows.Bytes())
		add(callAction, []byte("CreatePreparedStatement"), command)
	}
	add(callHandshake, []byte("a token"), nil)
	return all
}

// mutate returns a copy of the bytes with some of them changed, cut off or repeated.
func mutate(r *rand.Rand, original []byte) []byte {
	b := bytes.Clone(original)
	for range r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		switch offset := r.IntN(len(b)); r.IntN(5) {
		case 0:
			b[offset] = byte(r.IntN(256))
		case 1:
			b[offset] ^= 1 << r.IntN(8)
		case 2:
			b = b[:offset]
		case 3:
			b = slices.Insert(b, offset, b[offset:min(len(b), offset+r.IntN(64))]...)
		case 4:
			number := binary.LittleEndian.AppendUint64(nil, 1<<r.IntN(64)-uint64(r.IntN(2)))
			copy(b[offset:], number[:1+r.IntN(8)])
		}
	}
	return b
}

// TestMutants checks that calls with invalid arguments return an answer or an error, use bounded memory, and do
// not stop the server.
func TestMutants(t *testing.T) {
	n := procs.Number(t, "PARTD_MUTANTS", 8_000)
	_, store, address := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 8 << 20})
	c := dialTest(t, address)
	r := procs.Rand(t)
	calls := seeds(t)
	for i := range n {
		m := calls[r.IntN(len(calls))]
		if r.IntN(8) == 0 {
			m.kind = r.IntN(callKinds)
		}
		m.command, m.body = mutate(r, m.command), mutate(r, m.body)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		before := allocated()
		err := m.call(ctx, c)
		if allocatedBytes := allocated() - before; allocatedBytes > 256<<20 {
			t.Errorf("the call of kind %d with command %q and body %q allocated %d MiB, want at most 256, and returned %v", m.kind, m.command, m.body, allocatedBytes>>20, err)
		}
		if ctx.Err() != nil {
			t.Errorf("the call of kind %d with command %q and body %q did not return within a minute", m.kind, m.command, m.body)
		}
		if i%100 == 0 { // keep the store small
			for bucket, err := range store.Buckets(ctx) {
				if err == nil {
					_ = store.DeleteBucket(ctx, bucket, true)
				}
			}
			if _, err := doAction(ctx, c, "ping", ""); err != nil {
				t.Errorf("a ping after the calls failed: %v", err)
			}
		}
		cancel()
	}
}

// receiver is the client's side of a stream.
type receiver[T any] interface{ Recv() (T, error) }

// drain receives up to 1000 messages, and returns the error that ended the stream, if any.
func drain[T any](st receiver[T], err error) error {
	for range 1000 {
		if err == nil {
			_, err = st.Recv()
		}
	}
	return err
}

// call makes the mutant's call, and returns its error.
func (m mutant) call(ctx context.Context, c flight.Client) error {
	command, body := m.command, m.body
	d := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command}
	var err error
	switch m.kind {
	case callGet:
		st, err := c.DoGet(ctx, &flight.Ticket{Ticket: command})
		return drain(st, err)
	case callInfo:
		_, err = c.GetFlightInfo(ctx, d)
	case callSchema:
		_, err = c.GetSchema(ctx, d)
	case callPoll:
		_, err = c.PollFlightInfo(ctx, d)
	case callList:
		st, err := c.ListFlights(ctx, &flight.Criteria{Expression: command})
		return drain(st, err)
	case callAction:
		if string(command) == "shutdown" {
			return nil
		}
		st, err := c.DoAction(ctx, &flight.Action{Type: string(bytes.ToValidUTF8(command, nil)), Body: body})
		return drain(st, err)
	case callHandshake:
		st, err := c.Handshake(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(st.Send(&flight.HandshakeRequest{Payload: command}), st.CloseSend()); err != nil {
			return err
		}
		return drain(st, nil)
	case callPut:
		st, err := c.DoPut(ctx)
		if err != nil {
			return err
		}
		for i, m := range messagesIn(body) {
			if i == 0 {
				m.FlightDescriptor = d
			}
			if err := st.Send(m); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		_ = st.CloseSend()
		return drain(st, nil)
	}
	return err
}

// messagesIn splits a stream, which can be damaged, into Flight's messages.
func messagesIn(stream []byte) (all []*flight.FlightData) {
	for len(stream) >= 8 {
		n := min(int(binary.LittleEndian.Uint32(stream[4:])), len(stream)-8)
		m := &flight.FlightData{DataHeader: stream[8 : 8+n]}
		stream = stream[8+n:]
		if next := bytes.Index(stream, []byte{0xff, 0xff, 0xff, 0xff}); next >= 0 {
			m.DataBody, stream = stream[:next], stream[next:]
		} else {
			m.DataBody, stream = stream, nil
		}
		all = append(all, m)
	}
	return append(all, &flight.FlightData{})
}
