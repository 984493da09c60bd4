//go:build cgo && linux

package flightd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	flatbuffers "github.com/google/flatbuffers/go"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/go-partd/partd/internal/testutil/must"
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

// metadataAttacks returns attacks on the Iceberg catalog, by clients with a token for one bucket.
func metadataAttacks(t *testing.T, web string) []attacker {
	t.Helper()
	token := must.Get(NewToken(testSecret, Admin, t.Name(), time.Hour, "b"))(t)
	hosts := []string{"127.0.1.9", "127.0.1.10", "127.0.1.11", "127.0.1.12"}
	clients := map[string]*http.Client{}
	for _, host := range hosts {
		clients[host] = httpClientFrom(host)
	}
	send := func(ctx context.Context, host, method, path, body string) {
		r, err := http.NewRequestWithContext(ctx, method, "http://"+web+"/iceberg/v1/namespaces"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Authorization", "Bearer "+token)
		if response, err := clients[host].Do(r); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	}
	const column = `{"id": 1, "name": "c%d", "required": false, "type": "long"}`
	for _, name := range []string{"large", "dense", "schemas"} {
		send(t.Context(), hosts[0], "POST", "", `{"namespace": ["b"]}`)
		send(t.Context(), hosts[0], "POST", "/b/tables", `{"name": "`+name+`", "schema": {"type": "struct", "fields": [`+fmt.Sprintf(column, 0)+`]}}`)
	}
	commit := func(table string, updates ...string) func(context.Context, string) {
		body := `{"requirements": [], "updates": [` + strings.Join(updates, ",") + `]}`
		return func(ctx context.Context, host string) { send(ctx, host, "POST", "/b/tables/"+table, body) }
	}
	schemas := make([]string, 100)
	for i := range schemas {
		schemas[i] = `{"action": "add-schema", "schema": {"type": "struct", "schema-id": 0, "fields": [` + fmt.Sprintf(column, i) + `]}}`
	}
	return []attacker{
		{"commits of large metadata", 8, hosts, commit("large", `{"action": "set-properties", "updates": {"a": "`+strings.Repeat("x", 15<<20)+`"}}`)},
		{"loads of large metadata", 8, hosts, func(ctx context.Context, host string) { send(ctx, host, "GET", "/b/tables/large", "") }},
		{"commits of five million updates", 8, hosts, commit("dense", strings.Repeat("{},", 5<<20)+"{}")},
		{"100 new schemas in a commit", 4, hosts, commit("schemas", schemas...)},
	}
}

// bucketsAttacks returns attacks by a client with a token for one bucket.
func bucketsAttacks(t *testing.T, web string) []attacker {
	t.Helper()
	token := must.Get(NewToken(testSecret, Admin, t.Name(), time.Hour, "b"))(t)
	nulls := array.NewNull(1 << 53)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.Null, Nullable: true}}, nil)
	var stream bytes.Buffer
	w := ipc.NewWriter(&stream, ipc.WithSchema(schema))
	must.Do(t, errors.Join(w.Write(array.NewRecordBatch(schema, []arrow.Array{nulls}, 1<<53)), w.Close()))
	const host = "127.0.1.7"
	client := httpClientFrom(host)
	put := func(format, body string) func(context.Context, string) {
		return func(ctx context.Context, _ string) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+web+"/api/put?bucket=b&table=hostile&mode=replace&format="+format, strings.NewReader(body))
			if err != nil {
				return
			}
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("X-Partd", "1")
			if a, err := client.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, a.Body)
				_ = a.Body.Close()
			}
		}
	}
	hostile := map[string]string{}
	for _, name := range []string{"bomb", "broken"} {
		hostile[name] = string(must.Get(os.ReadFile(filepath.Join("..", "page", "testdata", name+".parquet")))(t))
	}
	var sparse strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&sparse, `,"c%d":1`, i)
	}
	return []attacker{
		{"Parquet with large texts", 2, []string{host}, put("parquet", hostile["bomb"])},
		{"Parquet that makes a library panic", 2, []string{host}, put("parquet", hostile["broken"])},
		{"2^53 nulls as Arrow", 2, []string{host}, put("arrow", stream.String())},
		{"JSON lines of 65,536 columns", 2, []string{host}, put("jsonl", "{"+sparse.String()[1:]+"}\n"+strings.Repeat("{}\n", 16<<10))},
	}
}

// attacker is an attack that several clients repeat concurrently.
type attacker struct {
	name    string
	clients int
	hosts   []string
	do      func(ctx context.Context, host string)
}

// withBearer returns a function that adds a token to a call's headers.
func withBearer(token string) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
}

// httpClientFrom returns an HTTP client that connects from an address.
func httpClientFrom(host string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.DialContext}}
}

// connect returns a connection that is closed when ctx is done.
func connect(ctx context.Context, host, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = conn.Close() })
	}
	return conn, err
}

// rawAttack returns a function that runs f on a new connection.
func rawAttack(address string, f func(ctx context.Context, c *rawClient)) func(context.Context, string) {
	return func(ctx context.Context, host string) {
		conn, err := connect(ctx, host, address)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		f(ctx, newRawClient(conn))
	}
}

// readUntilClosed reads until the server closes the connection.
func (c *rawClient) readUntilClosed() {
	for {
		if _, err := c.framer.ReadFrame(); err != nil {
			return
		}
	}
}

// attacks returns all attacks except mutated puts, which TestMutatedPuts sends.
func attacks(t *testing.T, address, web string) []attacker {
	t.Helper()
	return slices.Concat(strangersAttacks(t, address, web), readersAttacks(t, address), bucketsAttacks(t, web), metadataAttacks(t, web))
}

// strangersAttacks returns attacks by clients without a token.
func strangersAttacks(t *testing.T, address, web string) []attacker {
	t.Helper()
	hosts := []string{"127.0.1.1", "127.0.1.2"}
	message := bomb(t, 16_000_000)
	holdConnections := func(address, text string, n int) func(context.Context, string) {
		return func(ctx context.Context, host string) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			for range n {
				if conn, err := connect(ctx, host, address); err == nil {
					_, _ = io.WriteString(conn, text)
				}
			}
			pause(ctx, 5*time.Second)
		}
	}
	return []attacker{
		{"compressed unary calls", 4, hosts, rawAttack(address, func(_ context.Context, c *rawClient) {
			_, err := c.begin("GetFlightInfo", "grpc-encoding", "gzip")
			for rest := message; err == nil && len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
				err = c.framer.WriteData(1, false, rest[:min(len(rest), 16<<10)])
			}
			_ = c.SetDeadline(time.Now().Add(time.Second))
			c.readUntilClosed()
		})},
		{"unfinished unary messages", 24, hosts, rawAttack(address, func(_ context.Context, c *rawClient) {
			if stream, err := c.begin("GetFlightInfo"); err == nil && c.claim(stream, 249<<20) == nil {
				c.sendZeros(stream, 5*time.Second)
			}
		})},
		{"1,041 connections, each with a call that sends no message", 1, hosts[:1], func(ctx context.Context, host string) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			for range 1041 {
				if conn, err := connect(ctx, host, address); err == nil {
					_, _ = newRawClient(conn).begin("Handshake")
				}
			}
			pause(ctx, 5*time.Second)
		}},
		{"300 unfinished sign-ins", 1, hosts[1:], holdConnections(web, "POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 1000\r\n\r\n{", 300)},
		{"127 handshakes with headers of 60 KB", 8, hosts, rawAttack(address, func(ctx context.Context, c *rawClient) {
			go c.readUntilClosed()
			for range 127 {
				if _, err := c.begin("Handshake", "x", strings.Repeat("x", 60_000)); err != nil {
					return
				}
			}
			pause(ctx, 5*time.Second)
		})},
	}
}
