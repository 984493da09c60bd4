package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

var secret = []byte("a secret of the tests")

// catalog is a server of a catalog, together with a client.
type catalog struct {
	testing.TB
	dir   string
	store *tables.Store
	url   string
	token string
}

func serve(t testing.TB, dir string, fo flightd.Options, o Options) *catalog {
	t.Helper()
	store := must.Get(tables.Open(t.Context(), dir, &tables.Options{FoldAge: -1, ReadOnly: fo.ReadOnly, Memory: fo.Memory / 4}))(t)
	server := must.Get(flightd.New(store, &fo))(t)
	h := httptest.NewServer(Handler(server.Core, store, o))
	t.Cleanup(func() {
		h.Close()
		must.Do(t, store.Close())
	})
	return &catalog{t, dir, store, h.URL, ""}
}

// serveTables serves a new catalog. Its namespace ns has empty tables with these names.
func serveTables(t testing.TB, names ...string) *catalog {
	t.Helper()
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	for _, name := range names {
		c.create("ns", name)
	}
	return c
}

// withToken returns a client with a token for the given rights and buckets.
func (c *catalog) withToken(r flightd.Rights, buckets ...string) *catalog {
	c.Helper()
	token := must.Get(flightd.NewToken(secret, r, "", time.Hour, buckets...))(c)
	d := *c
	d.token = token
	return &d
}

// send sends a request. It fails the test unless the response has the given status and contains the texts.
func (c *catalog) send(method, path string, body any, code int, texts ...string) (map[string]any, http.Header) {
	c.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if text, ok := body.(string); ok {
			b, err = []byte(text), nil
		}
		must.Do(c, err)
		in = bytes.NewReader(b)
	}
	r := c.request(method, path, in)
	r.Header.Set("Content-Type", "application/json")
	return c.do(r, code, texts...)
}

// request returns a request with the client's token.
func (c *catalog) request(method, path string, body io.Reader) *http.Request {
	c.Helper()
	r := must.Get(http.NewRequestWithContext(c.Context(), method, c.url+"/v1/"+path, body))(c)
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return r
}

func (c *catalog) do(r *http.Request, code int, texts ...string) (map[string]any, http.Header) {
	c.Helper()
	a := must.Get(http.DefaultClient.Do(r))(c)
	defer a.Body.Close()
	b := must.Get(io.ReadAll(a.Body))(c)
	response := fmt.Sprintf("%s %s: %d %.600s", r.Method, r.URL.Path, a.StatusCode, b)
	if a.StatusCode != code {
		c.Fatalf("%s, want status %d", response, code)
	}
	for _, text := range texts {
		if !strings.Contains(string(b), text) {
			c.Fatalf("%s: want it to contain %q", response, text)
		}
	}
	var out map[string]any
	if len(b) > 0 {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&out); err != nil {
			c.Fatal(response, err)
		}
	}
	if code >= 400 && len(b) > 0 {
		errorObject, _ := out["error"].(map[string]any)
		if got, _ := errorObject["code"].(json.Number).Int64(); int(got) != code || errorObject["type"] == "" || errorObject["message"] == "" {
			c.Fatalf("%s: the error does not follow the specification", response)
		}
	}
	return out, a.Header
}

var nColumn = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)

func batch(ns ...int64) arrow.RecordBatch {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(ns, nil)
	return array.NewRecordBatch(nColumn, []arrow.Array{b.NewInt64Array()}, int64(len(ns)))
}

// parquetFile returns a Parquet file with the rows of batch.
func parquetFile(t testing.TB, ns ...int64) []byte {
	t.Helper()
	var content bytes.Buffer
	w := must.Get(pqarrow.NewFileWriter(nColumn, &content, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps()))(t)
	must.Do(t, w.Write(batch(ns...)))
	must.Do(t, w.Close())
	return content.Bytes()
}

var timedColumns = arrow.NewSchema([]arrow.Field{{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true}, nColumn.Field(0)}, nil)

// timedBatch returns a batch with the given numbers, both as times and as integers.
func timedBatch(ns ...int64) arrow.RecordBatch {
	b := array.NewTimestampBuilder(memory.DefaultAllocator, timedColumns.Field(0).Type.(*arrow.TimestampType))
	for _, n := range ns {
		b.Append(arrow.Timestamp(n))
	}
	return array.NewRecordBatch(timedColumns, []arrow.Array{b.NewArray(), batch(ns...).Column(0)}, int64(len(ns)))
}

// put appends rows directly to the store.
func (c *catalog) put(bucket, name string, o *tables.PutOptions, ns ...int64) {
	c.Helper()
	c.putBatch(bucket, name, o, batch(ns...))
}

func (c *catalog) putBatch(bucket, name string, o *tables.PutOptions, b arrow.RecordBatch) {
	c.Helper()
	tabletest.PutRows(c, c.store.Bucket(bucket), name, tabletest.OneBatch(b), tables.PutAppend, o)
}

// rows returns the rows that the store reads.
func (c *catalog) rows(bucket, name string) (ns []int64) {
	c.Helper()
	r := must.Get(c.store.Bucket(bucket).Table(name).Scan(c.Context(), &tables.ScanOptions{Columns: []string{"n"}}))(c)
	defer r.Release()
	for r.Next() {
		ns = append(ns, r.RecordBatch().Column(0).(*array.Int64).Int64Values()...)
	}
	if r.Err() != nil {
		c.Fatal(r.Err())
	}
	return ns
}

func (c *catalog) wantRows(bucket, name string, want ...int64) {
	c.Helper()
	if got := c.rows(bucket, name); fmt.Sprint(got) != fmt.Sprint(want) {
		c.Errorf("table %q: got rows %v, want %v", name, got, want)
	}
}

// totalRecords returns the number of rows in the newest snapshot of a response.
func totalRecords(answer map[string]any) string {
	meta := answer["metadata"].(map[string]any)
	all, _ := meta["snapshots"].([]any)
	for _, s := range all {
		if s := s.(map[string]any); s["snapshot-id"] == meta["current-snapshot-id"] {
			return s["summary"].(map[string]any)["total-records"].(string)
		}
	}
	return "none"
}

// wantTotal gets a table, whose path is relative to namespaces, and checks the number of rows in its newest snapshot.
func (c *catalog) wantTotal(path, want string) {
	c.Helper()
	if got := totalRecords(firstOf(c.send("GET", "namespaces/"+path, nil, 200))); got != want {
		c.Errorf("GET %s: the newest snapshot has %s rows, want %s", path, got, want)
	}
}

// load loads a table as an engine would, so that the test can stage changes on it.
func (c *catalog) load(bucket, name string) *table.Table {
	c.Helper()
	return must.Get(partdiceberg.Load(c.Context(), c.store.Bucket(bucket).Table(name), nil))(c)
}

type object = map[string]any

// commitOf returns an engine's commit of a new snapshot of a table.
func commitOf(base *table.Table, snap *table.Snapshot) object {
	var parent any
	if s := base.CurrentSnapshot(); s != nil {
		parent = s.SnapshotID
	}
	return object{
		"requirements": []any{object{"type": "assert-table-uuid", "uuid": base.Metadata().TableUUID()}, object{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}},
		"updates":      []any{object{"action": "add-snapshot", "snapshot": snap}, object{"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snap.SnapshotID}},
	}
}

// appendCommit returns an engine's commit that appends rows to a table.
func (c *catalog) appendCommit(base *table.Table, ns ...int64) object {
	c.Helper()
	return c.appendCommitBatch(base, batch(ns...))
}

func (c *catalog) appendCommitBatch(base *table.Table, b arrow.RecordBatch) object {
	c.Helper()
	tx := base.NewTransaction()
	must.Do(c, tx.Append(c.Context(), tabletest.OneBatch(b), nil))
	return commitOf(base, must.Get(tx.StagedTable())(c).CurrentSnapshot())
}

const schemaN = `{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "n", "type": "long", "required": false}]}`

func (c *catalog) create(namespace, name string) {
	c.Helper()
	c.send("POST", "namespaces/"+namespace+"/tables", `{"name": "`+name+`", "schema": `+schemaN+`}`, 200)
}

// TestJavaSpaces checks that a plus sign in a path is a space only from the versions of Iceberg Java that send it so, also
// for the fingerprint of a request with an idempotency key.
func TestJavaSpaces(t *testing.T) {
	c := serveTables(t, "my sales", "my+sales", "a%2Bb c")
	c.send("POST", "namespaces", object{"namespace": []string{"n s"}}, 200)
	c.create("n%20s", "t")
	uuidOf := func(name string) string { return c.load("ns", name).Metadata().TableUUID().String() }
	request := func(version, method, path string) *http.Request {
		r := c.request(method, path, http.NoBody)
		r.Header.Set("X-Client-Version", version)
		return r
	}
	for _, version := range []string{"Apache Iceberg 1.11.0 (commit 1a2b)", "Apache Iceberg 1.9.2-amzn-0 (commit 1a2b)", "Apache Iceberg 1.12.0 (commit 1a2b)", "Apache Iceberg 2.0.0", "Apache Iceberg unspecified", "0.14.1", ""} {
		t.Run(version, func(t *testing.T) {
			isOld := strings.Contains(version, " 1.11") || strings.Contains(version, " 1.9")
			plus := map[bool]string{true: "my sales", false: "my+sales"}[isOld]
			for path, want := range map[string]string{"my+sales": plus, "my%20sales": "my sales", "my%2Bsales": "my+sales", "a%252Bb%20c": "a%2Bb c"} {
				c.do(request(version, "GET", "namespaces/ns/tables/"+path), 200, uuidOf(want))
			}
			c.do(request(version, "HEAD", "namespaces/n+s"), map[bool]int{true: 204, false: 404}[isOld])
		})
	}
	key := newKey()
	drop := func(version, path string, code int) {
		r := request(version, "DELETE", "namespaces/ns/tables/"+path)
		r.Header.Set(keyHeader, key)
		c.do(r, code)
	}
	drop("Apache Iceberg 1.11.0", "my+sales", 204)
	c.send("GET", "namespaces/ns/tables/my%2Bsales", nil, 200)
	drop("", "my%20sales", 204) // repeated
	drop("", "my+sales", 422)   // another path
}

func firstOf[A, B any](a A, _ B) A { return a }
