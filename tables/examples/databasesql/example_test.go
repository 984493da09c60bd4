// Package databasesql_test queries tables through database/sql. It is a separate module,
// so that programs that use tables do not depend on the driver.
package databasesql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-adbc/go/adbc/sqldriver"
	"github.com/apache/arrow-go/v18/arrow/csv"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
)

// openSQL returns a sql.DB for the tables of a store in this process. It serves them on a Unix socket in
// a directory that only the current user can read, until stop is called.
func openSQL(ctx context.Context, store *tables.Store) (_ *sql.DB, stop func() error, err error) {
	server, err := flightd.New(store, nil)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "sql")
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	db, err := openServer("uri=grpc+unix://" + l.Addr().String())
	return db, func() error {
		cancel()
		return errors.Join(<-ended, os.RemoveAll(dir))
	}, err
}

// openServer returns a sql.DB for the tables of a server. An example of options is
// "uri=grpc://localhost:8081". If the server requires a token, append
// ";adbc.flight.sql.authorization_header=Bearer TOKEN".
func openServer(options string) (*sql.DB, error) {
	connector, err := sqldriver.Driver{Driver: flightsql.NewDriver(memory.DefaultAllocator)}.OpenConnector(options)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(preparing{connector}), nil
}

// preparing prepares every statement, because the driver binds parameters only to prepared
// statements.
type preparing struct{ driver.Connector }

func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		driver.Conn
		driver.ConnPrepareContext
	}{c, c.(driver.ConnPrepareContext)}, nil
}

func Example() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// B 2.5
	// C 3.5
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	store, err := tables.Open(ctx, dir, &tables.Options{Engine: engine})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	rows := csv.NewInferringReader(strings.NewReader("sym,price\nA,1.5\nB,2.5\nC,3.5\n"), csv.WithHeader(true))
	defer rows.Release()
	if _, err := store.Bucket("").Table("trades").Put(ctx, rows, tables.PutError, nil); err != nil {
		return err
	}

	db, stop, err := openSQL(ctx, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close(), stop()) }()
	results, err := db.QueryContext(ctx, "SELECT sym, price FROM trades WHERE price > ? ORDER BY sym", 2.0)
	if err != nil {
		return err
	}
	defer results.Close() //nolint:errcheck // Err returns the error
	for results.Next() {
		var sym string
		var price float64
		if err := results.Scan(&sym, &price); err != nil {
			return err
		}
		fmt.Println(sym, price)
	}
	return results.Err()
}
