package databasesql_test

import (
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/csv"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
)

type trade struct {
	Sym   string
	Price float64
	Size  *int64
	TS    time.Time
}

var (
	nine   = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	size   = int64(7)
	trades = []trade{{"A", 1.5, &size, nine}, {"B", 2.5, nil, nine.Add(time.Hour)}, {"C", 3.5, &size, nine.Add(2 * time.Hour)}}
)

// openTrades returns a store with a table trades in bucket NYSE.
func openTrades(t *testing.T) *tables.Store {
	t.Helper()
	engine := must.Get(duck.New(nil))(t)
	store := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: engine}))(t)
	t.Cleanup(func() { must.Do(t, errors.Join(store.Close(), engine.Close())) })
	rows := csv.NewInferringReader(strings.NewReader(`sym,price,size,ts
A,1.5,7,2026-01-05T09:00:00Z
B,2.5,,2026-01-05T10:00:00Z
C,3.5,7,2026-01-05T11:00:00Z
`), csv.WithHeader(true), csv.WithNullReader(true, ""))
	defer rows.Release()
	must.Get(store.Bucket("NYSE").Table("trades").Put(t.Context(), rows, tables.PutError, nil))(t)
	return store
}

// serve serves a store until the test ends, and returns the server's address.
func serve(t *testing.T, store *tables.Store, o *flightd.Options) string {
	t.Helper()
	server := must.Get(flightd.New(store, o))(t)
	address, _ := nettest.Serve(t, server.Serve)
	return address
}

// openStore opens a database on a store with trades until the test ends.
func openStore(t *testing.T) *sql.DB {
	t.Helper()
	db, stop, err := openSQL(t.Context(), openTrades(t))
	must.Do(t, err)
	t.Cleanup(func() { must.Do(t, stop()) })
	return db
}

// TestSQLX checks that sqlx can query a store in this process. The queries use parameters, return a NULL, a time or no
// rows, or fail.
func TestSQLX(t *testing.T) {
	db := sqlx.NewDb(openStore(t), "flightsql")
	defer db.Close() //nolint:errcheck // stop returns any error
	checkSQLX(t, db)
}

// TestServer checks that sqlx can query a server that requires a token, and that a query without the token fails.
func TestServer(t *testing.T) {
	secret := []byte("a secret of a server, in thirty-two bytes")
	address := serve(t, openTrades(t), &flightd.Options{Secret: secret})
	token := must.Get(flightd.NewToken(secret, flightd.Read, "", time.Hour))(t)
	for _, c := range []struct{ suffix, wantError string }{
		{";adbc.flight.sql.authorization_header=Bearer " + token, ""},
		{"", "token"},
	} {
		db := must.Get(openServer("uri=grpc://" + address + c.suffix))(t)
		if c.wantError == "" {
			checkSQLX(t, sqlx.NewDb(db, "flightsql"))
		} else if _, err := db.QueryContext(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), c.wantError) {
			t.Errorf("query without a token: error = %v, want %q", err, c.wantError)
		}
		must.Do(t, db.Close())
	}
}

func checkSQLX(t *testing.T, db *sqlx.DB) {
	t.Helper()
	for _, c := range []struct {
		where string
		args  []any
		want  []trade
	}{
		{"price > ? AND sym <> ?", []any{2.0, "C"}, trades[1:2]},
		{"size = ? OR size IS NULL", []any{int64(7)}, trades},
		{"ts >= CAST(CAST(? AS VARCHAR) AS TIMESTAMPTZ)", []any{nine.Add(time.Hour).Format(time.RFC3339)}, trades[1:]},
		{"sym = ?", []any{"'; DROP TABLE trades; --"}, nil},
	} {
		var got []trade
		if err := db.SelectContext(t.Context(), &got, `SELECT sym, price, size, ts FROM "NYSE".trades WHERE `+c.where+" ORDER BY sym", c.args...); err != nil {
			t.Errorf("query where %s: %v", c.where, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("query where %s = %+v, want %+v", c.where, got, c.want)
		}
	}
	query, args, err := sqlx.In(`SELECT count(*) FROM "NYSE".trades WHERE sym IN (?)`, []string{"A", "C"})
	var n int64
	if err == nil {
		err = db.GetContext(t.Context(), &n, query, args...)
	}
	if n != 2 || err != nil {
		t.Errorf("query with IN: count = %d, error %v; want 2", n, err)
	}
	if err := db.SelectContext(t.Context(), &[]trade{}, "SELECT nothing FROM \"NYSE\".trades"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf(`SelectContext error = %v, want an error with the text "nothing"`, err)
	}
}

// TestBun checks queries by bun, a query builder that writes values into the text of statements.
func TestBun(t *testing.T) {
	db := bun.NewDB(openStore(t), pgdialect.New())
	defer func() { must.Do(t, db.Close()) }()
	var got []trade
	err := db.NewSelect().TableExpr("?.?", bun.Ident("NYSE"), bun.Ident("trades")).Column("sym", "price", "size", "ts").
		Where("price > ?", 1).Where("sym IN (?)", bun.List([]string{"B", "it's"})).Where("ts < ?", nine.Add(90*time.Minute)).Order("sym").Scan(t.Context(), &got)
	if err != nil || !reflect.DeepEqual(got, trades[1:2]) {
		t.Errorf("query with bun = %+v, error %v; want %+v", got, err, trades[1:2])
	}
	n, err := db.NewSelect().TableExpr("NYSE.trades").Where("size IS NULL").Count(t.Context())
	if n != 1 || err != nil {
		t.Errorf("Count = %+v, error %v; want 1", n, err)
	}
}
