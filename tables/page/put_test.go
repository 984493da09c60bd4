package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
)

func TestPut(t *testing.T) {
	s := serve(t, flightd.Options{})
	putPath := func(format, more string) string {
		return "/api/put?" + url.Values{"bucket": {"B"}, "table": {hostileName}, "format": {format}}.Encode() + more
	}
	rows := func() string {
		_, text := s.get("/api/rows?" + url.Values{"bucket": {"B"}, "table": {hostileName}}.Encode())
		return strings.Join(column(t, text, "x"), " ")
	}
	s.wantPost(putPath("csv", ""), "x,y\n1,a\n2,b\n", 200, `"rows":2`)
	s.wantPost(putPath("csv", ""), "x,y\n1,a\n", 409, "already exists")
	for range 2 {
		s.wantPost(putPath("jsonl", "&mode=append&id=once"), `{"x": 3, "y": "c"}`, 200, `"version":`)
	}
	if got := rows(); got != "1 2 3" {
		t.Errorf("rows after the append: got %q, want %q", got, "1 2 3")
	}
	_, parquet := s.get("/api/download?format=parquet&" + url.Values{"bucket": {"B"}, "table": {hostileName}}.Encode())
	s.wantPost(putPath("parquet", "&mode=append"), parquet, 200, `"rows":3`)
	_, stream := s.get("/api/download?format=arrow&bucket=B&sql=SELECT+7+AS+x")
	s.wantPost(putPath("arrow", "&mode=replace"), stream, 200, `"rows":1`)
	for format, body := range map[string]string{
		"csv": "x,y\n1\n1,2,3", "jsonl": "{", "parquet": parquet[:len(parquet)/2], "arrow": stream[:len(stream)/3] + "nonsense", "nope": "", "": "",
	} {
		s.wantPost(putPath(format, "&mode=replace"), body, 400)
	}
	for want, body := range map[string]string{
		`line 3: column \"y\": the text is not valid UTF-8`: "x,y\n1,a\n2,caf\xe9\n", "decompress it first, with gzip -d": "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
	} {
		s.wantPost("/api/put?format=csv&table=unread", body, 400, want, "the body")
		s.wantPost("/api/put?format=csv&table=unread&file=mine.csv", body, 400, want, "mine.csv")
		s.wantGet("/api/rows?table=unread", 404)
	}
	s.wantPost(putPath("csv", "&mode=replace&sep=%3B&time=at&keys=x,%22a,b%22"), "x;a,b;at\n2;q;2026-01-02\n7;p;2026-01-01\n", 200, `"rows":2`)
	s.wantGet("/api/table?"+url.Values{"bucket": {"B"}, "table": {hostileName}}.Encode(), 200, `"time":"at","keys":["x","a,b"]`)
	if got := rows(); got != "7 2" {
		t.Errorf("rows after the replacement: got %q, want %q", got, "7 2")
	}
	s.wantPost("/api/put?dry=1&bucket=B&table=-t&format=csv&sep=%3B&time=at&keys=x,%22a,b%22&file=it's.csv", "", 200, `"partd-tables put --server grpc://localhost:8081 --bucket B --mode error --format csv '--sep=;' --time at --key x --key a,b -- -t 'it'\\''s.csv'"`)
	s.wantGet("/api/table?bucket=B&table=-t", 404)
	s.wantPost("/api/put?dry=1&table=t&format=csv&null=NA&null=-&ragged=cut&decimal=,&thousands=.", "", 200, `--format csv --ragged=cut --null=NA --null=- --decimal=, --thousands=. -- t`)
	s.wantPost("/api/put?table=numbers&format=csv&null=NA&null=-&ragged=true&decimal=,", "n,m,o\nNA,1\n\"1,5\",-\n", 200, `"rows":2`)
	s.wantPost("/api/put?table=latin&format=csv&encoding=latin-1", "x\ncaf\xe9\n", 200, `"rows":1`)
	s.wantGet("/api/download?table=latin&format=csv", 200, "x\ncafé\n")
	s.wantPost("/api/put?table=large&format=csv&encoding=utf-16be", strings.Repeat("\x00x\x00\n", 20_000), 200, `"rows":19999`) // in another process
	s.wantGet("/api/download?table=numbers&format=csv", 200, "n,m,o\n,1,\n1.5,,\n")
	for _, bad := range []string{"&sep=ab", "&sep=%22", "&keys=%22", "&ragged=maybe", "&encoding=utf-7", "&encoding=utf-16", "&null=%22", "&skip-bad=true", "&format=jsonl&sep=%3B", "&mode=nope", "&table=", "&bucket=" + strings.Repeat("b", 256)} {
		s.wantPost("/api/put?"+strings.TrimPrefix(bad, "&")+"&format=csv&table=u", "x\n1\n", 400)
	}
	s.wantPost(putPath("csv", "&mode=append"), "x\nno number\n", 400)
	if got := rows(); got != "7 2" {
		t.Errorf("rows after a failed append: got %q, want %q", got, "7 2")
	}
	s.wantNoServerErrors()
}

// TestEndlessBody checks that a body over the server's limit is refused, and that nothing is put.
func TestEndlessBody(t *testing.T) {
	s := serve(t, flightd.Options{})
	a, text := s.do(s.request(t.Context(), http.MethodPost, "/api/query", endlessBody{}))
	s.expect(a, text, 413, "larger than 1048576 bytes")
	limit := maxUpload
	maxUpload = 1 << 20
	defer func() { maxUpload = limit }()
	a, text = s.do(s.request(t.Context(), http.MethodPost, "/api/put?table=t&format=csv", endlessBody{}))
	s.expect(a, text, 413, "larger than 1048576 bytes")
	s.wantGet("/api/table?table=t", 404)
	s.wantNoServerErrors()
}

type endlessBody struct{}

func (endlessBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestStalledBody checks that a client that stops sending its body is disconnected, and that its slot becomes free.
func TestStalledBody(t *testing.T) {
	s := serve(t, flightd.Options{Puts: 1, IdleTimeout: 5 * time.Second})
	conn := must.Get(net.Dial("tcp", strings.TrimPrefix(s.url, "http://")))(t)
	defer conn.Close()
	must.Get(io.WriteString(conn, "POST /api/put?table=t&format=csv HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 1000\r\n\r\nx\n1\n"))(t)
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) || strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("got response %q, error %v, want a closed connection", answer, err)
	}
	s.wantPost("/api/put?table=t&format=csv", "x\n2\n", 200)
}

func TestMalformed(t *testing.T) {
	s := serve(t, flightd.Options{})
	for _, path := range []string{"query", "cancel", "action", "sign-in"} {
		for _, body := range []string{"", "{", "[]", `{"nope": 1}`, `{} {}`, "\xff", `{"id": 1, "token": 1, "action": 1}`, strings.Repeat("[", 100_000)} {
			s.wantPost("/api/"+path, body, 400)
		}
	}
	for _, body := range []map[string]any{
		{"sql": "SELECT 1"},
		{"id": "short", "sql": "SELECT 1"},
		{"id": "aaaaaaaaaaaaaaaa"},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT 1", "limit": -1},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT 1; SELECT 2"},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "COPY (SELECT 1) TO 'x'"},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT\n nope"},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT 1\x00"},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT * FROM read_csv('/etc/passwd')"},
		{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT 1", "bucket": "\x00"},
	} {
		s.wantPost("/api/query", jsonOf(t, body), 400)
	}
	s.wantPost("/api/query", `{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT\n nope"}`, 400, `"line":2,"column":2`)
}

// TestActions checks that the command line that the page displays for an action has the right arguments after a shell
// has parsed it, whatever characters the names contain.
func TestActions(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", hostileName, `SELECT TIMESTAMP '2026-01-01' + INTERVAL (i) SECOND AS at, i AS "x, ""y'" FROM range(100) x(i)`)
	s.putQuery("", "-u", `SELECT 1 AS "x, ""y'"`)
	for _, c := range []struct {
		action, result string
		args           []string
	}{
		{
			jsonOf(t, map[string]any{"action": "resample", "source": hostileName, "target": "-r", "rule": "10s", "time": "at", "functions": []string{"sum", "max"}, "columns": []string{"x, \"y'"}, "mode": "replace"}),
			`"target_rows":10`,
			[]string{"resample", "--mode", "replace", "--rule", "10s", "--time", "at", "--func", "sum,max", "--columns", `"x, ""y'"`, "--", hostileName, "-r"},
		},
		{
			jsonOf(t, map[string]any{"action": "combine", "sources": []string{hostileName, "-u"}, "target": "both", "target_bucket": "$(echo)"}),
			`"target_rows":101`,
			[]string{"combine", "--mode", "error", "--target-bucket", "$(echo)", "--", hostileName, "-u", "both"},
		},
		{
			jsonOf(t, map[string]any{"action": "clean", "source": hostileName, "where": "\"x, \"\"y'\" < 50\n--'"}),
			`"target_rows":50`,
			[]string{"clean", "--where", "\"x, \"\"y'\" < 50\n--'", "--", hostileName},
		},
		{
			jsonOf(t, map[string]any{"action": "change_metadata", "table": "-u", "set": map[string]any{"k": "it's", "n": 7}, "remove": []string{"gone"}}),
			"{}",
			[]string{"meta", "set", "--remove", "gone", "--", "-u", `k="it's"`, "n=7"},
		},
		{`{"action": "change_metadata", "bucket": "new"}`, "{}", []string{"meta", "set", "--bucket", "new", "--of-bucket", "--"}},
		{`{"action": "snapshot", "name": "it's"}`, `"name":"it's"`, []string{"snapshot", "create", "--", "it's"}},
		{jsonOf(t, map[string]any{"action": "delete-rows", "table": hostileName, "where": `"x, ""y'" >= 40`}), `"deleted":10`, []string{"delete-rows", "--where", `"x, ""y'" >= 40`, "--", hostileName}},
		{`{"action": "restore", "name": "it's", "tables": ["-u"]}`, "{}", []string{"snapshot", "restore", "--", "it's", "-u"}},
		{`{"action": "delete-snapshot", "name": "it's"}`, "{}", []string{"snapshot", "delete", "--", "it's"}},
		{jsonOf(t, map[string]any{"action": "delete", "tables": []string{hostileName, "-r"}}), "{}", []string{"delete", "--", hostileName, "-r"}},
	} {
		_, text := s.wantPost("/api/action?dry=1", c.action, 200)
		var dryRun, performed struct{ Command string }
		must.Do(t, json.Unmarshal([]byte(text), &dryRun))
		_, text = s.wantPost("/api/action", c.action, 200, c.result)
		if err := json.Unmarshal([]byte(text), &performed); err != nil || performed != dryRun || dryRun.Command == "" {
			t.Errorf("got command %q after the action, %q from the dry run, error %v; want the same command", performed, dryRun, err)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `partd_tables() { printf '%s\0' "$@"; }; `+strings.Replace(dryRun.Command, "partd-tables", "partd_tables", 1)).Output()
		args := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		want := append([]string{}, c.args...)
		verbs := 1
		if want[0] == "snapshot" || want[0] == "meta" {
			verbs = 2
		}
		want = append(append(append([]string{}, want[:verbs]...), "--server", "grpc://localhost:8081"), want[verbs:]...)
		if err != nil || strings.Join(args, "\x00") != strings.Join(want, "\x00") {
			t.Errorf("%s\n got arguments %q, error %v\nwant %q", dryRun.Command, args, err, want)
		}
	}
	for body, status := range map[string]int{
		`{"action": "nope"}`: 400, `{"action": "delete", "tables": ["none"]}`: 404, `{"action": "delete"}`: 400, `{"action": "restore", "name": "none"}`: 404,
		`{"action": "combine", "sources": ["-u"], "target": "x"}`: 400, `{"action": "resample", "source": "-u", "target": "x", "rule": "nope", "time": "x"}`: 400,
		`{"action": "clean", "source": "-u", "where": "nope"}`: 400, `{"action": "delete-rows", "table": "-u", "where": "((" }`: 400, `{"action": "clean", "source": "-u", "mode": "nope"}`: 400,
		`{"action": "delete", "tables": ["\u0000"]}`: 400, `{"action": "combine", "sources": ["-u", "-u"], "target": "both", "target_bucket": "$(echo)"}`: 409,
	} {
		s.wantPost("/api/action", body, status)
	}
	s.wantPost("/api/action?dry=1", `{"action": "clean", "source": "t", "drop_nulls": ["a\r\nb"]}`, 400, "the command line cannot")
}

func TestDownload(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", hostileName, "SELECT i AS x FROM range(3) x(i)")
	for format, want := range map[string]string{"csv": "x\n1\n", "jsonl": "{\"x\":1}\n"} {
		a, text := s.wantGet("/api/download?"+url.Values{"table": {hostileName}, "filter": {"x = 1"}, "format": {format}}.Encode(), 200)
		if name := a.Header.Get("Content-Disposition"); text != want || !isSafeFileName(name) {
			t.Errorf("download as %s: got %q, Content-Disposition %q, want %q", format, text, name, want)
		}
	}
	a, text := s.get("/api/download?format=csv&sql=SELECT+i+FROM+range(100000)+t(i)")
	if s.expect(a, text, 200); strings.Count(text, "\n") != 100_001 {
		t.Errorf("download of 100000 rows: got %d bytes, want 100001 lines", len(text))
	}
	if !bytes.HasPrefix([]byte(fileName("")), []byte("table")) || fileName("../..") != "_" || len(fileName(strings.Repeat("x", 255))) != 100 {
		t.Errorf("fileName of an empty name = %q, of ../.. = %q, want table and _, and at most 100 bytes", fileName(""), fileName("../.."))
	}
	for _, query := range []string{"format=xls&table=t", "format=csv", "format=csv&sql=SELECT+1&table=t", "format=csv&sql=nope"} {
		s.wantGet("/api/download?"+query, 400)
	}
	// The writer of Parquet has not yet encoded the rows before the error.
	s.wantGet("/api/download?format=parquet&sql=SELECT+CASE+i+WHEN+99999+THEN+error('no+rows')+ELSE+i+END+AS+x,repeat('x',100)+AS+y+FROM+range(100000)+t(i)", 400, "no rows")
	for _, format := range []string{"csv", "jsonl", "parquet", "arrow"} {
		s.wantGet("/api/download?sql=SELECT+'x'||i+AS+a,i+AS+a+FROM+range(1000)+t(i)&format="+format, 200, "x99")
	}
}

// isSafeFileName reports whether a header's file name contains only harmless characters.
func isSafeFileName(disposition string) bool {
	name, ok := strings.CutPrefix(disposition, `attachment; filename="`)
	return ok && !strings.ContainsAny(strings.TrimSuffix(name, `"`), "\"\\/;\r\n<>$'")
}

// TestSlowBody checks that a request whose body arrives very slowly ends at the call's time limit.
func TestSlowBody(t *testing.T) {
	s := serve(t, flightd.Options{Puts: 1, CallTimeout: 3 * time.Second})
	conn := must.Get(net.Dial("tcp", strings.TrimPrefix(s.url, "http://")))(t)
	defer conn.Close()
	must.Get(io.WriteString(conn, "POST /api/put?table=t&format=csv HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 1000000\r\n\r\nx\n"))(t)
	go func() {
		for {
			if _, err := io.WriteString(conn, "1\n"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answer := make([]byte, 1000)
	n, err := io.ReadAtLeast(conn, answer, 12)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 503") {
		t.Errorf("got response %q, error %v, want status 503", answer[:n], err)
	}
}

// hostileFile returns the content of a file in testdata. bomb.parquet was compressed by pyarrow, and has a column
// of 16,384 equal strings of 1 MiB. broken.parquet has a column with a negative length, which makes the library
// panic in a separate goroutine.
func hostileFile(t *testing.T, name string) string {
	t.Helper()
	return string(must.Get(os.ReadFile("testdata/" + name + ".parquet"))(t))
}

// sparseLines returns JSON lines. The first line has 65,536 columns, the other lines have none.
func sparseLines() string {
	var b strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&b, `,"c%d":1`, i)
	}
	return "{" + b.String()[1:] + "}\n" + strings.Repeat("{}\n", 16<<10)
}

// TestHostileFiles checks that files that would use all memory, or crash the process that reads them, fail only their
// own requests.
func TestHostileFiles(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	_, before := ownMemory(t)
	for _, f := range []struct{ name, format, body, want string }{
		{"a text of 1 MiB in each row", "parquet", hostileFile(t, "bomb"), "of memory"},
		{"columns that most lines lack", "jsonl", sparseLines(), "split it into smaller files"},
		{"a panic in a goroutine of the library", "parquet", hostileFile(t, "broken"), "the file is damaged"},
	} {
		start := time.Now()
		_, text := s.wantPost("/api/put?table=t&format="+f.format, f.body, 400, "the body", f.want) // possibly with the row group
		_, peak := ownMemory(t)
		grown := peak - before
		t.Logf("%s: %v, %d MiB, %s", f.name, time.Since(start), grown>>20, text)
		if grown > 300<<20 {
			t.Errorf("%s: the server's memory grew by %d MiB, want at most 300", f.name, grown>>20)
		}
	}
	s.wantPost("/api/put?table=t&format=csv", "x\n1\n", 200, `"rows":1`)
}

// TestHostileArrow checks that an Arrow batch that decompresses to far more data fails its request, because the
// separate process that reads it has limited memory.
func TestHostileArrow(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	const rows = 40 << 20
	zeros := array.NewInt64Data(array.NewData(arrow.PrimitiveTypes.Int64, rows, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 8*rows))}, nil, 0, 0))
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	var body bytes.Buffer
	w := ipc.NewWriter(&body, ipc.WithSchema(schema), ipc.WithZstd())
	must.Do(t, errors.Join(w.Write(array.NewRecordBatch(schema, []arrow.Array{zeros}, rows)), w.Close()))
	s.wantPost("/api/put?table=t&format=arrow", body.String(), 400, "the body: ", "of memory")
}
