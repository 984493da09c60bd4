package page

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/lineprotocol"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// write sends lines as a client of InfluxDB does, with headers "Name: value", and checks the answer like expect.
func (s *testServer) write(query, lines string, status int, headers []string, words ...string) *http.Response {
	s.t.Helper()
	r := must.Get(http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+query, strings.NewReader(lines)))(s.t)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	a, text := s.do(r)
	s.expect(a, text, status, words...)
	return a
}

// csv returns a table as CSV without its last newline.
func (s *testServer) csv(bucket, table string) string {
	s.t.Helper()
	_, text := s.wantGet("/api/download?format=csv&bucket="+bucket+"&table="+table, 200)
	return strings.TrimSuffix(text, "\n")
}

func TestWriteLines(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.write("/api/v2/write?org=ignored&bucket=B&precision=s", "cpu,host=a usage=0.5,n=3i 100\n# comment\n\ncpu,host=b up=true 50\n", 204, nil)
	s.write("/write?db=B&precision=ms&u=x", `cpu,zone=z\n note="two\"s \n\\",big=18446744073709551615u 150000`, 204, nil)
	want := `time,host,usage,n,up,zone,note,big
1970-01-01T00:00:50Z,b,,,true,,,
1970-01-01T00:01:40Z,a,0.5,3,,,,
1970-01-01T00:02:30Z,,,,,z\n,"two""s \n\",18446744073709551615`
	if got := s.csv("B", "cpu"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.wantGet("/api/table?bucket=B&table=cpu", 200, `"time":"time"`, `"evolution":"add_only"`)
	s.write("/write", "m v=1 1", 204, nil) // without a bucket
	if got := s.csv("", "m"); got != "time,v\n1970-01-01T00:00:00.000000001Z,1" {
		t.Errorf("a time in nanoseconds: got %q", got)
	}
	s.write("/write", "", 204, nil)
}

// TestWriteLinesAtOnce checks that a body of several measurements is stored whole or not at all.
func TestWriteLinesAtOnce(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.write("/write", "a v=1 1\nb v=2 2\na v=3 3", 204, nil)
	s.write("/write", "a v=4 4\nb v=5i 5", 400, nil, `line 2: measurement \"b\", field \"v\"`, `"line":2`, `"code":"invalid"`)
	if a, b := s.csv("", "a"), s.csv("", "b"); strings.Count(a, "\n") != 2 || strings.Count(b, "\n") != 1 {
		t.Errorf("after a refused body: got\n%s\n%s", a, b)
	}
}

func TestWriteLinesErrors(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.write("/write", "m,host=a v=1,text=\"x\ny\" 1\n", 204, nil)
	for body, want := range map[string]string{
		"m v=1 1\nm v=\"text\" 2":                   `line 2: measurement \"m\", field \"v\": the value is of type string, but line 1 has type float`,
		"# x\nm,host=b text=\"x\ny\" 1\nm v=1i 2\n": `line 4: measurement \"m\", field \"v\": `,
		"m v=1 1\nm,host= v=1 1":                    `line 2: column 8: expected the value of tag \"host\", found ' '`,
		"m v=1 1\nm,v=tag u=1 1":                    `line 2: measurement \"m\": \"v\" is both a tag and a field`,
		"m v=1,v=2 1":                               `line 1: measurement \"m\": field \"v\" occurs twice`,
		"m,a=1,a=2 v=1":                             `line 1: measurement \"m\": tag \"a\" occurs twice`,
		"m time=1 1":                                `line 1: measurement \"m\": field \"time\" is called time`,
		"m v=1 12345678901234567890":                `line 1: the timestamp \"12345678901234567890\" is not a whole number of 64 bits`,
		"m v=1e999":                                 `line 1: column 5: field \"v\": the value \"1e999\" is neither a number`,
		"m v=1 1\n\xff v=1":                         `line 2: the line is not valid UTF-8`,
		"m v=\"a\n\xff\" 1":                         `line 2: the line is not valid UTF-8`,
		"m Time=1 1":                                `line 1: measurement \"m\": field \"Time\" is called time`,
		"m,Host=a v=1 1":                            `line 1: measurement \"m\": tag \"Host\" and the table's column \"host\" differ only in case`,
		"m v=1 1\nm,V=a v=1 2":                      `line 2: measurement \"m\": tag \"V\" and the field \"v\" differ only in case`,
		"new v=1 1\nnew V=1 2":                      `line 2: measurement \"new\": field \"V\" and the field \"v\" differ only in case`,
		"m v=\"" + strings.Repeat("v", 1<<20):       `line 1: the line has more than 1048576 bytes`,
		"m v=1\x00":                                 `line 1: `,
		"m":                                         `line 1: column 2: expected a comma and a tag, or a space and a field, found the end of the body`,
		"m v=\"x":                                   `line 1: column 5: expected closing quote of field \"v\"`,
		strings.Repeat("n", 256) + " v=1 1":         `name`,
		strings.Repeat("m v=1 1\n", 5) + "m v=1 now!": `line 6: the timestamp \"now!\" is not a whole number of 64 bits`,
	} {
		s.write("/write", body, 400, nil, want, `"code":"invalid"`)
	}
	s.write("/write?precision=d", "m v=1 1", 400, nil, `precision is \"d\": it must be ns, us, ms, s, m or h`)
	s.write("/write?precision=h", "m v=1 9000000000", 400, nil, "line 1: the timestamp 9000000000 does not fit", "precision=")
	s.write("/write?precision=s", "late v=1 1", 204, nil)
	s.write("/write", "late v=1 1", 400, nil, `line 1: measurement \"late\": the time 1 ns is not a whole number of us`)
	s.putQuery("", "cased", "SELECT TIMESTAMP '2026-01-01' AS \"Time\", 1.5 AS v")
	s.write("/write", "cased v=1 1", 400, nil, `line 1: measurement \"cased\": the table's column \"Time\" differs from \"time\"`)
	s.write("/write?bucket="+strings.Repeat("b", 256), "m v=1 1", 400, nil, "invalid name")
	if got := s.csv("", "m"); strings.Count(got, "\n") != 2 {
		t.Errorf("after refused bodies: got\n%s", got)
	}
	if s.wantNoServerErrors(); !strings.Contains(metricsText(s.server.Metrics()), `code="InvalidArgument",method="http-write"`) {
		t.Error("the metrics do not count bad lines as InvalidArgument")
	}
	s.wantGet("/write", 405, `"code":"method not allowed"`)
	for _, path := range []string{"/query?q=x", "/api/v2/query", "/api/v2/buckets", "/api/v3/write_lp?db=x"} {
		s.write(path, "m v=1 1", 404, nil, "no such path", `\"/api/v2/write\"`, `"code":"not found"`)
	}
}

// TestWriteLinesErrorsShort checks that an answer quotes only the beginning of a long name or value.
func TestWriteLinesErrorsShort(t *testing.T) {
	s := serve(t, flightd.Options{})
	long := strings.Repeat("\u00a0", 500_000) // Go quotes it as 6 bytes
	s.write("/write", "m "+long[:2000]+"=1 1", 204, nil)
	for _, body := range []string{
		"m v=1 " + long, "m v=1 1 " + long, "m v=1 " + strings.Repeat("1", 1_000_000), "m v=" + strings.Repeat("1", 1_000_000) + "e", "m," + long + " v=1", "m " + long + ",", "m " + long + "=1u,v=1" + strings.Repeat("1", 30) + "i",
		long + " time=1", "m " + long + "=1," + long + "=2", "m," + long + "=1 " + long + "=2", "m " + long + "=1\nm " + long + "=t", "m " + long[:2000] + "=t", long + " v=1 1",
	} {
		r := must.Get(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/write", strings.NewReader(body)))(t)
		a, text := s.do(r)
		if a.StatusCode != 400 || len(text) > 4<<10 {
			t.Errorf("%.20q…: got status %d with %d bytes, %.100s", body, a.StatusCode, len(text), text)
		}
	}
}

// TestWriteLinesNow checks the time of points without a timestamp: the unit of the column limits it, and that of the
// request does not.
func TestWriteLinesNow(t *testing.T) {
	s := serve(t, flightd.Options{})
	for unit, table := range map[string]string{"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "ns": "TIMESTAMP_NS"} {
		s.putQuery("", unit, fmt.Sprintf("SELECT '2026-01-01'::%s AS time, 1.5::DOUBLE AS v", table))
	}
	s.write("/write?precision=h", "new v=1 1", 204, nil)
	for _, precision := range []string{"h", "s", ""} { // h first, because csv sorts by time
		for _, table := range []string{"s", "ms", "ns", "new"} {
			from := time.Now().Add(-time.Second)
			s.write("/write?precision="+precision, table+" v=1", 204, nil)
			last := strings.Split(s.csv("", table), "\n")
			text, _, _ := strings.Cut(last[len(last)-1], ",")
			got, err := time.Parse("2006-01-02T15:04:05", strings.TrimSuffix(text, "Z"))
			if err != nil || got.Before(from) || got.After(time.Now()) {
				t.Errorf("table %s, precision %q: got time %s, want one after %v: %v", table, precision, text, from, err)
			}
		}
	}
}

// TestWriteLinesBounded checks that a small body cannot make the server use much memory.
func TestWriteLinesBounded(t *testing.T) {
	s := serve(t, flightd.Options{})
	var fields, measurements, wide strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&fields, "m f%d=1\n", i)
		fmt.Fprintf(&measurements, "m%d f=1\n", i)
		fmt.Fprintf(&wide, "wide%s f=1\n", ",t=x"[:4*(i%2)])
	}
	s.write("/write", fields.String(), 400, nil, "more than 4194304 values")
	s.write("/write", measurements.String(), 400, nil, "line 1001: the body has more than 1000 measurements")
	s.write("/write", strings.Repeat("m f=1\n", 2_200_000), 400, nil, "more than 4194304 values")
	for _, table := range []string{"wide", "wide2"} {
		s.putQuery("", table, "SELECT "+strings.Join(columnList(400), ", "))
	}
	s.write("/write", wide.String(), 400, nil, "the table has 400 columns that the 50000 points lack")
	s.write("/write", strings.Repeat("wide f=1\n", 18_000), 400, nil, "the table has no such column") // not too many
	s.write("/write", strings.Repeat("wide f=1\nwide2 f=1\n", 18_000), 400, nil, `line 2: measurement \"wide2\": `, "that the 18000 points lack")
	s.putQuery("", "vectors", "SELECT array_value(1::FLOAT) AS small, [1.5::FLOAT for i in range(1536)]::FLOAT[1536] AS v")
	s.write("/write", strings.Repeat("vectors f=1\n", 10_000), 400, nil, "line 1: ", "the table has 2 columns that the 10000 points lack")
	s.write("/write", strings.Repeat("#", lineprotocol.MaxBody+1), 413, nil, "larger than 33554432 bytes", `"code":"request too large"`)
	bomb := packed(t, strings.Repeat("#", lineprotocol.MaxBody+1))
	s.write("/write", bomb, 413, []string{"Content-Encoding: gzip"}, "larger than 33554432 bytes")
}

func columnList(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%d AS c%d", i, i))
	}
	return all
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	must.Get(w.Write([]byte(text)))(t)
	must.Do(t, w.Close())
	return b.String()
}

func TestWriteLinesGzip(t *testing.T) {
	s := serve(t, flightd.Options{})
	body := packed(t, "m v=1 1\nm v=2 2\n")
	s.write("/api/v2/write", body, 204, []string{"Content-Encoding: gzip"})
	s.write("/api/v2/write", body[:len(body)-9], 400, []string{"Content-Encoding: gzip"}, "not valid gzip")
	s.write("/api/v2/write", "m v=3 3", 400, []string{"Content-Encoding: gzip"}, "not valid gzip")
	s.write("/api/v2/write", body, 415, []string{"Content-Encoding: br"}, `Content-Encoding is \"br\"`, `"code":"unsupported media type"`)
	if got := s.csv("", "m"); strings.Count(got, "\n") != 2 {
		t.Errorf("got\n%s", got)
	}
}

func TestWriteLinesTokens(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	const line = "m v=1 1"
	admin, reader, limited := s.withToken(flightd.Admin), s.withToken(flightd.Read), s.withToken(flightd.Admin, "B")
	for _, authorization := range []string{"Token " + admin.token, "token " + admin.token, "Bearer " + admin.token} {
		s.write("/api/v2/write", line, 204, []string{"Authorization: " + authorization})
	}
	s.write("/write?u=anyone&p="+admin.token, line, 204, nil)
	r := must.Get(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/write", strings.NewReader(line)))(t)
	r.SetBasicAuth("anyone", admin.token)
	a, text := s.do(r)
	s.expect(a, text, 204)
	for _, headers := range [][]string{nil, {"Authorization: Token x"}, {"Cookie: partd-token=" + admin.token}} {
		s.write("/write", line, 401, headers, `"code":"unauthorized"`)
	}
	s.write("/write", line, 403, []string{"Authorization: Token " + reader.token}, "allows reading only", `"code":"forbidden"`)
	s.write("/write?db=B", line, 204, []string{"Authorization: Token " + limited.token})
	s.write("/write?db=C", line, 403, []string{"Authorization: Token " + limited.token}, `does not cover bucket \"C\"`)
	s.write("/write", line, 403, []string{"Authorization: Token " + admin.token, "Sec-Fetch-Site: cross-site"}, "another site")
	if got := admin.csv("", "m"); strings.Count(got, "\n") != 5 {
		t.Errorf("got\n%s", got)
	}
}

// TestWriteLinesOtherMachines checks that a server without a secret takes lines only from programs of the same machine.
func TestWriteLinesOtherMachines(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.write("/write", "m v=1 1", 403, []string{"Origin: " + s.url}, "the header Origin")
	s.write("/write", "m v=1 1", 403, []string{"Sec-Fetch-Site: cross-site"}, "another site")
	rebound := must.Get(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/write", strings.NewReader("m v=1 1")))(t)
	rebound.Host = "evil.example"
	answer, text := s.do(rebound)
	s.expect(answer, text, 403, "its header Host")
	r := must.Get(http.NewRequestWithContext(t.Context(), http.MethodPost, "/write", strings.NewReader("m v=1 1")))(t)
	r.RemoteAddr = "192.0.2.7:1234"
	h := Handler(s.server.Core, s.store, Options{})
	a := httptest.NewRecorder()
	h.ServeHTTP(a, r)
	if a.Code != 403 || !strings.Contains(a.Body.String(), "another machine") {
		t.Errorf("from another machine: got %d %s", a.Code, a.Body)
	}
	s.wantGet("/api/table?table=m", 404)
}

// TestWriteLinesColumns checks writes into a table that was created otherwise, by its settings.
func TestWriteLinesColumns(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", "known", "SELECT TIMESTAMP '2026-01-01' AS time, 'a' AS host, 1.5::DOUBLE AS v, [1] AS list")
	s.write("/write?precision=s", "known,host=b v=2 1", 204, nil)
	s.write("/write?precision=s", "known,host=b other=2 1", 400, nil, `line 1: measurement \"known\", field \"other\"`)
	settings := tables.Settings{Time: "time", Keys: []string{"host"}, OnDuplicate: tables.KeepLast}
	must.Do(t, s.store.Bucket("").Table("known").SetSettings(t.Context(), settings))
	for range 2 { // a client that repeats a batch
		s.write("/write?precision=s", "known,host=b v=3 1\nknown,host=c v=4 1", 204, nil)
	}
	s.write("/write?precision=s", "known v=5 1", 400, nil, "host")
	want := "time,host,v,list\n1970-01-01T00:00:01,b,3,\n1970-01-01T00:00:01,c,4,\n2026-01-01T00:00:00,a,1.5,[1]"
	if got := s.csv("", "known"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestWriteLinesOnce checks that a body with an ID counts once, even if several clients send it at the same time.
func TestWriteLinesOnce(t *testing.T) {
	s := serve(t, flightd.Options{})
	bodies := map[string]string{"one": "one v=1 1\none v=2 2", "two": "a v=1 1\nb v=1 1\na v=1 2"}
	for range 2 {
		var all sync.WaitGroup
		for id, body := range bodies {
			for range 4 {
				all.Go(func() { s.write("/write?id="+id, body, 204, nil) })
			}
		}
		all.Wait()
	}
	for table, rows := range map[string]int{"one": 2, "a": 2, "b": 1} {
		if got := strings.Count(s.csv("", table), "\n"); got != rows {
			t.Errorf("table %s: got %d rows, want %d", table, got, rows)
		}
	}
	s.write("/write?id=3", bodies["one"], 204, nil)
	s.write("/write", bodies["one"], 204, nil) // equal points without an ID are different points
	if got := strings.Count(s.csv("", "one"), "\n"); got != 6 {
		t.Errorf("after other IDs: got %d rows, want 6", got)
	}
	s.write("/write?id="+strings.Repeat("x", 256), "m v=1 1", 400, nil, "option ID is 256 bytes long")
}

// TestWriteLinesStalled checks the answer to a client that stops sending in the middle of a body.
func TestWriteLinesStalled(t *testing.T) {
	s := serve(t, flightd.Options{IdleTimeout: time.Second})
	for path, words := range map[string]string{"/write": `"code":"unavailable"`, "/api/put?table=t&mode=append&format=csv": `{"error":"the client sent nothing`} {
		body, client := io.Pipe()
		time.AfterFunc(3*time.Second, func() { _ = client.Close() }) // always returns nil
		r := s.request(t.Context(), http.MethodPost, path, io.MultiReader(strings.NewReader("m v=1 1\n"), body))
		a, text := s.do(r)
		s.expect(a, text, 503, "the client sent nothing for too long", words)
	}
}

// TestWriteLinesMemory checks that no put that has a slot waits for memory that others keep while they wait for a slot.
func TestWriteLinesMemory(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 64 << 20, MaxMessage: 1 << 20, Puts: 1, IdleTimeout: 3 * time.Second})
	s.write("/write", "m v=1,w=1 1", 204, nil)
	other, end := s.server.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "192.0.2.1:1")
	defer end(nil)
	release := must.Get(serving.AcquirePut(other))(t)
	var all sync.WaitGroup
	defer all.Wait()
	body, large := io.Pipe()
	all.Go(func() {
		a, text := s.do(s.request(t.Context(), http.MethodPost, "/write", body))
		s.expect(a, text, 204)
	})
	const wait = 300 * time.Millisecond
	_ = must.Get(io.WriteString(large, "large v=1 1\n"))(t) // this request has reserved memory first
	time.Sleep(wait)
	all.Go(func() { s.write("/write", strings.Repeat("m v=1 1\n", 100_000), 204, nil) }) // needs nulls for the column w
	time.Sleep(wait)
	_ = must.Get(io.WriteString(large, strings.Repeat("#"+strings.Repeat("x", 1000)+"\n", 4500)))(t) // takes all memory
	must.Do(t, large.Close())
	time.Sleep(wait)
	release()
}

// TestWriteLinesConcurrently checks writers that add columns to the same new tables at the same time.
func TestWriteLinesConcurrently(t *testing.T) {
	s := serve(t, flightd.Options{})
	const writers, writes = 4, 5
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range writes {
				s.write("/write", fmt.Sprintf("m f%d_%d=1 1\nn f%d_%d=1 1", w, i, w, i), 204, nil)
				s.write("/write", fmt.Sprintf("m f%d=1 1", w), 204, nil)
			}
		})
	}
	all.Wait()
	lines := strings.Split(s.csv("", "m"), "\n")
	if columns := strings.Count(lines[0], ",") + 1; columns != 1+writers*(writes+1) || len(lines) != 1+2*writers*writes {
		t.Errorf("got %d columns and %d lines, want %d and %d", columns, len(lines), 1+writers*(writes+1), 1+2*writers*writes)
	}
}

func TestInfluxHealth(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret, Version: "1.2.3"})
	a, _ := s.wantGet("/ping", 204)
	if v := a.Header.Get("X-Influxdb-Version"); v != "partd-tables 1.2.3" {
		t.Errorf("X-Influxdb-Version = %q", v)
	}
	s.wantGet("/health", 200, `"status":"pass"`, `"name":"partd-tables"`)
	s.server.Deadline.Store(1)
	s.wantGet("/health", 503, `"status":"fail"`, "stopping")
}
