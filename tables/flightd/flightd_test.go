package flightd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/server/ratelimit"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// serveTest starts a server, which runs until the test ends.
func serveTest(t *testing.T, o *Options) (*Server, *tables.Store, string) {
	t.Helper()
	return serveTables(t, nil, o)
}

func serveTables(t *testing.T, storeOptions *tables.Options, o *Options) (*Server, *tables.Store, string) {
	t.Helper()
	store := must.Get(tables.Open(t.Context(), t.TempDir(), storeOptions))(t)
	s := must.Get(New(store, o))(t)
	address, _ := nettest.Serve(t, s.Serve, store)
	return s, store, address
}

func dialTest(t *testing.T, address string) flight.Client {
	t.Helper()
	c := must.Get(flight.NewClientWithMiddleware(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var floats = arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)

func floatBatch(n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, floats)
	defer b.Release()
	b.Field(0).(*array.Float64Builder).AppendValues(make([]float64, n), nil)
	return b.NewRecordBatch()
}

// beginPut begins a put, sends n batches, and leaves the stream open.
func beginPut(ctx context.Context, c flight.Client, command string, n, rows int) (flight.FlightService_DoPutClient, *flight.Writer, error) {
	st, err := c.DoPut(ctx)
	if err != nil {
		return nil, nil, err
	}
	w := flight.NewRecordWriter(st, ipc.WithSchema(floats))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(command)})
	for range n {
		if err = w.Write(floatBatch(rows)); err != nil {
			break
		}
	}
	return st, w, err
}

// putTest puts n batches, and returns the server's error, if any.
func putTest(ctx context.Context, c flight.Client, command string, n, rows int) error {
	st, w, err := beginPut(ctx, c, command, n, rows)
	if st == nil {
		return err
	}
	if err == nil {
		err = errors.Join(w.Close(), st.CloseSend())
	}
	for {
		if _, recvErr := st.Recv(); recvErr != nil {
			if recvErr.Error() != "EOF" {
				return recvErr
			}
			return err
		}
	}
}

// doAction runs an action, and returns its first answer.
func doAction(ctx context.Context, c flight.Client, kind, body string) (string, error) {
	st, err := c.DoAction(ctx, &flight.Action{Type: kind, Body: []byte(body)})
	if err != nil {
		return "", err
	}
	r, err := st.Recv()
	return string(r.GetBody()), err
}

// TestRulesAndArguments checks that puts of shoots' clients and of flightclient both apply rules, and that
// invalid arguments are reported as InvalidArgument.
func TestRulesAndArguments(t *testing.T) {
	_, store, address := serveTest(t, nil)
	c, ctx := dialTest(t, address), t.Context()
	must.Do(t, putTest(ctx, c, `{"name":"t"}`, 1, 2))
	got, err := doAction(ctx, c, "partd.delete_rows", `{"name":"t","where":"x > 100"}`)
	if want := `{"version":1,"deleted":0,"written":0,"files":0}`; got != want || err != nil {
		t.Errorf("partd.delete_rows of no row returned %s, error %v; want all counts: %s", got, err, want)
	}
	rule := tables.RuleEdit{Add: []tables.Rule{{Name: "large", Kind: "range", Column: "x", Min: "1"}}}
	must.Do(t, store.Bucket("").EditRules(ctx, rule))
	for _, command := range []string{`{"name":"t","mode":"append"}`, `{"name":"u"}`, `{"partd":"put","name":"t","mode":1}`} {
		must.Fail(t, putTest(ctx, c, command, 1, 2), `rule "large": 2 rows violate it`, "put %s", command)
	}
	for body, want := range map[string]string{
		`partd.set_settings {"name":"t","settings":{"time":"y"}}`:            "no such column",
		`partd.set_settings {"name":"t","settings":{"on_duplicate":"most"}}`: "unknown rule",
		`partd.partition {"name":"t","by":"week"}`:                           "unknown partition",
		`partd.partition {"name":"t","by":"day"}`:                            "needs a time column",
	} {
		kind, body, _ := strings.Cut(body, " ")
		if _, err := doAction(ctx, c, kind, body); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("action %s %s: got %v, want InvalidArgument with %q", kind, body, err, want)
		}
	}
}

// TestTokens checks that calls without a valid token are refused, and that a read token allows no changes.
func TestTokens(t *testing.T) {
	secret := []byte("a secret of the server")
	s, store, address := serveTest(t, &Options{Secret: secret})
	c := dialTest(t, address)
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		return must.Get(jwt.NewWithClaims(method, claims).SignedString(key))(t)
	}
	expiry := time.Now().Add(time.Hour).Unix()
	withCrit := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": expiry, "type": "admin"})
	withCrit.Header["crit"] = []string{"x"}
	critical := must.Get(withCrit.SignedString(secret))(t)
	badTokens := map[string]string{
		"garbage": "garbage", "empty": "", "three dots": "a.b.c",
		"expired":      sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"exp": 1, "type": "admin"}),
		"no exp":       sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"type": "admin"}),
		"other secret": sign(jwt.SigningMethodHS256, []byte("another"), jwt.MapClaims{"exp": expiry, "type": "admin"}),
		"alg none":     sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"exp": expiry, "type": "admin"}),
		"alg HS512":    sign(jwt.SigningMethodHS512, secret, jwt.MapClaims{"exp": expiry, "type": "admin"}),
		"no type":      sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"exp": expiry}),
		"crit":         critical,
		"other type":   sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"exp": expiry, "type": "root"}),
	}
	ctxOf := func(key, value string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), key, value)
	}
	basic := func(token string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:"+token))
	}
	contexts := func(token string) map[string]context.Context {
		return map[string]context.Context{
			"bearer": ctxOf("authorization", "Bearer "+token), "basic": ctxOf("authorization", basic(token)), "auth-token-bin": ctxOf("auth-token-bin", token),
		}
	}
	if _, err := doAction(t.Context(), c, "ping", ""); status.Code(err) != codes.Unauthenticated {
		t.Errorf("ping without a token: got %v, want Unauthenticated", err)
	}
	for name, token := range badTokens {
		for header, ctx := range contexts(token) {
			if _, err := doAction(ctx, c, "ping", ""); status.Code(err) != codes.Unauthenticated {
				t.Errorf("token %q as %s: ping returned %v, want Unauthenticated", name, header, err)
			}
			if err := putTest(ctx, c, `{"name":"t"}`, 1, 1); status.Code(err) != codes.Unauthenticated {
				t.Errorf("token %q as %s: a put returned %v, want Unauthenticated", name, header, err)
			}
			if _, err := c.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"t"}}); status.Code(err) != codes.Unauthenticated {
				t.Errorf("token %q as %s: GetFlightInfo returned %v, want Unauthenticated", name, header, err)
			}
		}
	}
	time.Sleep(2 * time.Second / ratelimit.Rate) // the server slows down clients after many wrong tokens
	readToken := must.Get(NewToken(secret, Read, "", time.Hour))(t)
	admin := must.Get(NewToken(secret, Admin, "", time.Hour))(t)
	for header, ctx := range contexts(readToken) {
		if _, err := doAction(ctx, c, "ping", ""); err != nil {
			t.Errorf("read token as %s: ping failed: %v", header, err)
		}
		if err := putTest(ctx, c, `{"name":"t"}`, 1, 1); status.Code(err) != codes.PermissionDenied {
			t.Errorf("read token as %s: a put returned %v, want PermissionDenied", header, err)
		}
		for kind := range actions {
			if kind == "ping" || kind == "buckets" || kind == "partd.cancel" { // partd.cancel requires only the call's id
				continue
			}
			if _, err := doAction(ctx, c, kind, `{"name":"t","source":"t","target":"u","sources":["t"]}`); status.Code(err) != codes.PermissionDenied {
				t.Errorf("read token as %s: action %s returned %v, want PermissionDenied", header, kind, err)
			}
		}
	}
	for header, ctx := range contexts(admin) {
		if err := putTest(ctx, c, `{"name":"t","mode":"append"}`, 1, 1); err != nil {
			t.Errorf("admin token as %s: a put failed: %v", header, err)
		}
	}
	if _, err := store.Bucket("").Table("t").Info(t.Context()); err != nil {
		t.Errorf("after the admin's puts, Table failed: %v", err)
	}
	// Handshakes of clients of shoots require an admin token, and their errors have PyJWT's names.
	for token, hasName := range map[string]bool{admin: false, readToken: false, badTokens["other type"]: false, "garbage": true, badTokens["other secret"]: true} {
		want := codes.Unauthenticated
		if token == admin {
			want = codes.OK
		}
		if _, err := s.access.payloadToken("", []byte(token)); status.Code(err) != want || errors.As(err, new(*shootsError)) != hasName {
			t.Errorf("payloadToken returned %T %v, want %s, and a shootsError: %v", err, err, want, hasName)
		}
	}
	if _, err := s.access.payloadToken("", []byte(badTokens["other secret"])); !strings.Contains(err.Error(), "InvalidSignatureError") {
		t.Errorf("payloadToken with another secret's token = %v, want InvalidSignatureError", err)
	}
}

// TestHostileCommands checks that hostile commands fail with errors that clients of shoots (another server) can read.
func TestHostileCommands(t *testing.T) {
	_, _, address := serveTest(t, nil)
	c := dialTest(t, address)
	for _, body := range []string{"", "{", "[]", "null", `{"name":1}`, `{"name":"\u0000"}`, `{"name":""}`, strings.Repeat("[", 100_000), "\xff\xfe"} {
		for kind := range actions {
			if kind == "ping" || kind == "buckets" || kind == "shutdown" {
				continue
			}
			st, err := c.DoAction(t.Context(), &flight.Action{Type: kind, Body: []byte(body)})
			if err == nil {
				_, err = st.Recv()
			}
			var detail struct{ Type, Message string }
			if status.Code(err) != codes.Unknown {
				t.Errorf("action %s with body %.20q: got %v, want Unknown", kind, body, err)
			} else if v := st.Trailer().Get("grpc-status-details-bin"); len(v) != 1 || json.Unmarshal([]byte(v[0]), &detail) != nil || detail.Type == "" || detail.Message == "" {
				t.Errorf("action %s with body %.20q: the error's detail is %q, want JSON with a type and a message", kind, body, v)
			}
		}
		if err := putTest(t.Context(), c, body, 1, 1); err == nil {
			t.Errorf("a put with the command %.20q succeeded, want an error", body)
		}
	}
	must.Do(t, putTest(t.Context(), c, `{"name":"t"}`, 1, 1))
	if err := readAll(t.Context(), c, `{"partd":"unknown","name":"t"}`, 0); err == nil || !strings.Contains(err.Error(), "upgrade the server") {
		t.Errorf("a ticket of an unknown call: error %v, want advice", err)
	}
}

// putValue appends two batches of rows that all have the same value.
func putValue(ctx context.Context, c flight.Client, name string, value float64, rows int) error {
	b := array.NewRecordBuilder(memory.DefaultAllocator, floats)
	defer b.Release()
	for range rows {
		b.Field(0).(*array.Float64Builder).Append(value)
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	st, w, err := beginPut(ctx, c, `{"name":"`+name+`","mode":"append"}`, 0, 0)
	if err != nil {
		return err
	}
	for range 2 {
		if err := w.Write(batch); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), st.CloseSend()); err != nil {
		return err
	}
	acknowledged := false
	for {
		if _, err := st.Recv(); errors.Is(err, io.EOF) && acknowledged {
			return nil
		} else if err != nil {
			return err
		}
		acknowledged = true
	}
}

// readAll reads the answer to a ticket, with a pause after each message.
func readAll(ctx context.Context, c flight.Client, ticket string, delay time.Duration) error {
	st, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte(ticket)})
	for err == nil {
		if _, err = st.Recv(); delay > 0 {
			pause(ctx, delay)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// TestCanceledCall checks that a client can cancel a call by the id that it chose for the call, and that
// no other call is canceled.
func TestCanceledCall(t *testing.T) {
	_, store, address := serveTest(t, nil)
	c := dialTest(t, address)
	const id = "an id of thirty-two bytes, about"
	ctx := metadata.AppendToOutgoingContext(t.Context(), callHeader, id)
	st, _, err := beginPut(ctx, c, `{"name":"t"}`, 1, 10)
	must.Do(t, err)
	cancel := func(id string) bool {
		answer := must.Get(doAction(t.Context(), c, "partd.cancel", fmt.Sprintf(`{"id":%q}`, id)))(t)
		return strings.Contains(answer, "true")
	}
	if cancel(strings.Repeat("x", 32)) {
		t.Error("partd.cancel with an unknown id canceled a call")
	}
	waitFor(t, "partd.cancel did not find the call", func() bool { return cancel(id) })
	start := time.Now()
	if _, err := st.Recv(); status.Code(err) != codes.Canceled || time.Since(start) > 5*time.Second {
		t.Errorf("the canceled call returned %v after %v, want Canceled within 5 s", err, time.Since(start))
	}
	for i, err := range store.Bucket("").Tables(t.Context(), nil) {
		t.Error("the canceled put left a table", i, err)
	}
	if cancel(id) {
		t.Error("partd.cancel canceled the same call twice")
	}
}

// TestErrorsAreWithoutJargon checks that errors contain no library jargon, however deeply they are wrapped.
func TestErrorsAreWithoutJargon(t *testing.T) {
	inner := status.Error(codes.InvalidArgument, "batch 3 is too short")
	for _, err := range []error{
		serving.Status(fmt.Errorf("tables: put \"t\": %w", inner)), asShootsError(fmt.Errorf("tables: put \"t\": %w", inner)),
		serving.Status(&tables.SchemaError{Column: "c", Err: fmt.Errorf("error encountered during schema visitor: error encountered during arrow schema visitor: no such type")}),
	} {
		text := status.Convert(err).Message()
		if status.Code(err) != codes.InvalidArgument || strings.Contains(text, "rpc error") || strings.Contains(text, "visitor") || len(text) < 20 {
			t.Errorf("got %v, want InvalidArgument without jargon", err)
		}
	}
}

// TestReadOnlyServer checks that a read-only server refuses all changes, whatever the token allows, and says why.
func TestReadOnlyServer(t *testing.T) {
	_, _, address := serveTest(t, &Options{ReadOnly: true})
	c := dialTest(t, address)
	if err := putTest(t.Context(), c, `{"name":"t"}`, 1, 1); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "only for reading") {
		t.Errorf("a put on a read-only server returned %v, want PermissionDenied", err)
	}
	for _, action := range []string{"delete", "partd.delete", "partd.compact"} {
		if _, err := doAction(t.Context(), c, action, `{"name":"t","names":["t"]}`); status.Code(err) != codes.PermissionDenied {
			t.Errorf("action %s on a read-only server: got %v, want PermissionDenied", action, err)
		}
	}
	sql := flightsql.Client{Client: c}
	_, err := sql.ExecuteUpdate(t.Context(), "DELETE FROM t")
	wantCode(t, err, codes.PermissionDenied, "only for reading")
	if _, err := doAction(t.Context(), c, "buckets", `{}`); err != nil {
		t.Errorf("listing buckets on a read-only server failed: %v", err)
	}
}
