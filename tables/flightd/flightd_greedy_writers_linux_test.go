//go:build cgo && linux

package flightd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/go-partd/partd/internal/testutil/must"
)

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
		b := must.Get(os.ReadFile(filepath.Join("..", "page", "testdata", name+".parquet")))(t)
		hostile[name] = string(b)
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
