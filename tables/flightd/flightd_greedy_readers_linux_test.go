//go:build cgo && linux

package flightd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-partd/partd/internal/testutil/must"
	flatbuffers "github.com/google/flatbuffers/go"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// greedyStatements need more memory than a statement may use.
var greedyStatements = []string{
	"SELECT median(range) FROM range(300000000)",
	"SELECT range % 1000000 AS g, list(range) FROM range(1000000000) GROUP BY g",
	"SELECT json_object(" + strings.TrimSuffix(strings.Repeat("'k',repeat('x',65536),", 4000), ",") + ")",
	"SELECT " + strings.TrimSuffix(strings.Repeat("repeat('x', 65536 - (range % 2)::INT),", 4000), ",") + " FROM range(2048)",
}

const (
	uninterruptible = "SELECT max(levenshtein(x, y)) FROM (SELECT repeat('a', 65000) || range AS x, repeat('b', 65000) || range AS y FROM range(100000))"
	endless         = "SELECT * FROM range(1000000000000)"
)

func ticketOf(sql string) string { return fmt.Sprintf(`{"name":"t","sql":%q}`, sql) }

// readersAttacks returns attacks by clients with the right to read.
func readersAttacks(t *testing.T, address string) []attacker {
	t.Helper()
	tokenCtx, _ := withToken(t, testSecret, Read)
	md, _ := metadata.FromOutgoingContext(tokenCtx)
	clients := map[string]flight.Client{}
	withClient := func(f func(ctx context.Context, c flight.Client)) func(context.Context, string) {
		return func(ctx context.Context, host string) {
			c := clients[host]
			f(metadata.NewOutgoingContext(ctx, md), c)
		}
	}
	hosts := []string{"127.0.1.3", "127.0.1.4"}
	endlessHosts := []string{"127.0.1.5", "127.0.1.6"}
	for _, host := range append(hosts, endlessHosts...) {
		clients[host] = clientFrom(t, host, address)
	}
	get := func(ticket string) func(context.Context, string) {
		return withClient(func(ctx context.Context, c flight.Client) { _ = readAll(ctx, c, ticket, 0) })
	}
	disconnecting := withClient(func(ctx context.Context, c flight.Client) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_ = readAll(ctx, c, ticketOf(uninterruptible), 0)
	})
	readEndless := withClient(func(ctx context.Context, c flight.Client) {
		_ = readAll(ctx, c, ticketOf(endless), 10*time.Millisecond)
	})
	all := []attacker{
		{"false parameters", 4, hosts, withClient(falseParameters(t))},
		{"a scan of one column 20,000 times", 4, hosts, get(`{"partd":"scan","name":"t","columns":["x"` + strings.Repeat(`,"x"`, 20_000) + `]}`)},
		{"GetSqlInfo of 400,000 ids", 4, hosts, withClient(func(ctx context.Context, c flight.Client) {
			sql := &flightsql.Client{Client: c}
			info, err := sql.GetSqlInfo(ctx, make([]flightsql.SqlInfo, 400_000))
			if err == nil {
				_ = readAll(ctx, c, string(info.Endpoint[0].Ticket.Ticket), 0)
			}
		})},
		{"ListFlights with long patterns", 4, hosts, withClient(func(ctx context.Context, c flight.Client) {
			for _, pattern := range []string{strings.Repeat("a?", 450_000), strings.Repeat("(a|b)*", 600)} {
				st, err := c.ListFlights(ctx, &flight.Criteria{Expression: []byte(`{"regex":"` + pattern + `"}`)})
				for err == nil {
					_, err = st.Recv()
				}
			}
		})},
		{"CancelFlightInfo of very many endpoints", 4, hosts, withClient(cancelMany(t))},
		{"uninterruptible statements whose clients leave", 4, hosts, disconnecting},
		{"endless SELECTs from one address", 12, endlessHosts[:1], readEndless},
		{"endless SELECTs from another address", 4, endlessHosts[1:], readEndless},
	}
	for i, sql := range greedyStatements {
		all = append(all, attacker{"SQL that exceeds its memory: " + []string{"median", "list", "json_object", "wide rows"}[i], 1, hosts, get(ticketOf(sql))})
	}
	return all
}

// falseBufferCount is a put's stream that claims a huge number of buffers for a string view column.
type falseBufferCount struct {
	flight.FlightService_DoPutClient
}

func (l falseBufferCount) Send(d *flight.FlightData) error {
	if len(d.DataBody) > 0 {
		b := bytes.Clone(d.DataHeader)
		message, batch := flatbuffers.Table{Bytes: b, Pos: flatbuffers.GetUOffsetT(b)}, flatbuffers.Table{}
		message.Union(&batch, flatbuffers.UOffsetT(message.Offset(8)))
		binary.LittleEndian.PutUint64(b[batch.Vector(flatbuffers.UOffsetT(batch.Offset(12))):], 1<<36)
		d.DataHeader = b
	}
	return l.FlightService_DoPutClient.Send(d)
}

// falseParameters returns an attack whose statement parameters claim a huge number of buffers.
func falseParameters(t *testing.T) func(ctx context.Context, c flight.Client) {
	t.Helper()
	texts := array.NewStringViewBuilder(memory.DefaultAllocator)
	texts.Append("a text that is longer than a view")
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.BinaryTypes.StringView}}, nil)
	batch := array.NewRecordBatch(schema, []arrow.Array{texts.NewArray()}, 1)
	command := packedCommand(t, &pb.CommandPreparedStatementQuery{PreparedStatementHandle: []byte(`{"sql":"SELECT ?"}`)})
	return func(ctx context.Context, c flight.Client) {
		st, err := c.DoPut(ctx)
		if err != nil {
			return
		}
		w := flight.NewRecordWriter(falseBufferCount{st}, ipc.WithSchema(schema))
		w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
		_, _, _ = w.Write(batch), w.Close(), st.CloseSend()
		for err == nil {
			_, err = st.Recv()
		}
	}
}

// cancelMany returns an attack that cancels as many endpoints as fit into an action. Some of the endpoints
// are empty, and some contain a statement's ticket.
func cancelMany(t *testing.T) func(ctx context.Context, c flight.Client) {
	t.Helper()
	ticket := packedCommand(t, &pb.TicketStatementQuery{StatementHandle: []byte(`{"id":"x"}`)})
	endpoint := must.Get(proto.Marshal(&flight.FlightEndpoint{Ticket: &flight.Ticket{Ticket: ticket}}))(t)
	request := func(endpoint []byte) []byte {
		field := append([]byte{0x1a, byte(len(endpoint))}, endpoint...) // FlightInfo.endpoint
		body := bytes.Repeat(field, 2_000_000/len(field))
		return append(binary.AppendUvarint([]byte{0x0a}, uint64(len(body))), body...)
	}
	requests := [][]byte{request(nil), request(endpoint)}
	return func(ctx context.Context, c flight.Client) {
		for _, body := range requests {
			st, err := c.DoAction(ctx, &flight.Action{Type: "CancelFlightInfo", Body: body})
			for err == nil {
				_, err = st.Recv()
			}
		}
	}
}
