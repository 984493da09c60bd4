// Package sqlwrite parses SQL statements that change tables. It splits a statement into parts and returns SELECT
// statements that compute what the statement changes. It does not parse expressions: the engine that runs the SELECT
// statements does.
package sqlwrite

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Verbs of statements.
const (
	Insert       = "INSERT"
	Update       = "UPDATE"
	Delete       = "DELETE"
	Merge        = "MERGE"
	Truncate     = "TRUNCATE"
	CreateTable  = "CREATE TABLE"
	DropTable    = "DROP TABLE"
	AlterTable   = "ALTER TABLE"
	CreateBucket = "CREATE SCHEMA"
	DropBucket   = "DROP SCHEMA"
)

// Statement is a parsed statement. The fields that its verb does not use are zero. In expressions and queries, each ?
// is replaced with $1, $2 and so on.
type Statement struct {
	Verb   string
	Schema string // the table's bucket as written, or the name of the bucket that the statement creates or drops
	Table  string
	Alias  string // the name that expressions use for the table
	With   string // the WITH clause of UPDATE, DELETE or MERGE, including the word WITH; for INSERT, it is part of Query

	IfExists, IfNotExists, OrReplace, Cascade bool

	HasParameters bool // whether the statement contains ?, $1 or $name

	Columns []string   // columns that INSERT lists; nil without a list
	ByName  bool       // whether INSERT matches columns by name
	Query   string     // query of INSERT or CREATE TABLE AS; "" if INSERT has VALUES, or CREATE TABLE has columns
	Values  [][]string // rows of INSERT … VALUES; "" means DEFAULT, and an empty row means DEFAULT VALUES

	NewColumns []Column // columns of CREATE TABLE, or the column that ALTER TABLE adds or changes
	NewName    string   // new name of the table, or of column Column

	Column   string // column that ALTER TABLE adds, drops, renames or changes; "" if it renames the table
	Change   string // what ALTER TABLE does to Column: "add", "drop", "rename" or "widen"
	IfColumn bool   // whether ADD COLUMN has IF NOT EXISTS, or DROP COLUMN has IF EXISTS

	From    string // tables after USING of DELETE or MERGE, or after FROM of UPDATE
	On      string // condition of MERGE
	Using   string // column list of MERGE … USING (…), with brackets
	Where   string // condition of DELETE or UPDATE; "" without one
	Actions []Action
}

// Action is an action of a MERGE, or the only action of an UPDATE.
type Action struct {
	When   When
	If     string // condition after AND; "" without one
	Kind   string // "UPDATE", "DELETE", "INSERT" or "NOTHING"
	ByName bool   // whether the action sets, for each column of the source, the column of the same name
	Set    []Assignment
}

// Assignment sets a column to an expression. The value "" means DEFAULT. If an INSERT has no list of columns, Column is
// "", and the index of the assignment is that of the column.
type Assignment struct{ Column, Value string }

// When selects the rows for an action of a MERGE.
type When int

const (
	Matched            When = iota // rows of the table that match a row of the source
	NotMatched                     // rows of the source that match no row of the table
	NotMatchedBySource             // rows of the table that match no row of the source
)

var (
	errTransaction      = errors.New("there are no transactions: each statement is one commit; connect with autocommit")
	errMultiple         = errors.New("only one statement is allowed")
	errReturning        = errors.New("RETURNING is not supported: a change returns its number of rows")
	errConflict         = errors.New("tables have no unique index: use MERGE INTO")
	errColumnConstraint = errors.New("a column has only a name and a type: use rules to check values (docs/evolve.md)")
)

// MaxSQL is the maximum length of a statement, in bytes.
const MaxSQL = 256 << 10

// CheckLength returns an error if a statement is longer than MaxSQL.
func CheckLength(sql string) error {
	if len(sql) > MaxSQL {
		return &sqltext.Error{Err: fmt.Errorf("the statement has %d bytes: the limit is %d", len(sql), MaxSQL)}
	}
	return nil
}

// IsWrite reports whether a statement changes something or controls a transaction. It looks only at the verb, which can
// follow a WITH clause. Parse refuses to control transactions. A statement that is longer than MaxSQL does not count as
// a write.
func IsWrite(sql string) bool {
	if CheckLength(sql) != nil {
		return false
	}
	tokens, err := lex(sql)
	if err != nil || len(tokens) == 0 {
		return false
	}
	p := &parser{sql: sql, tokens: tokens}
	_, _ = p.with() // skips a WITH clause; Parse returns its errors
	switch p.peek(0) {
	case Insert, Update, Delete, Merge, Truncate, "CREATE", "DROP", "ALTER":
		return true
	}
	return p.isTransaction()
}

// Parse parses a statement that changes a table or a bucket. Errors are of type *sqltext.Error. They have a position,
// unless the statement is longer than MaxSQL.
func Parse(sql string) (*Statement, error) {
	if err := CheckLength(sql); err != nil {
		return nil, err
	}
	tokens, err := lex(sql)
	if err != nil {
		return nil, err
	}
	for len(tokens) > 0 && tokens[len(tokens)-1].upper == ";" {
		tokens = tokens[:len(tokens)-1]
	}
	p := &parser{sql: sql, tokens: tokens}
	st := &Statement{}
	for i, t := range tokens {
		if t.upper == ";" {
			return nil, p.wrap(i, errMultiple)
		}
		if t.kind == quoted && strings.EqualFold(sql[t.start:t.end], sqltext.Name(TargetSchema)) {
			return nil, p.wrap(i, fmt.Errorf("%s is a reserved name", sql[t.start:t.end]))
		}
		st.HasParameters = st.HasParameters || t.kind == parameter
	}
	st.With, err = p.with()
	if err != nil {
		return nil, err
	}
	if p.isTransaction() {
		return nil, p.wrap(p.pos, errTransaction)
	}
	if err := p.statement(st); err != nil {
		return nil, err
	}
	if p.pos < len(p.tokens) {
		return nil, p.expected("the end of the statement")
	}
	switch st.Verb {
	case Update, Delete, Merge:
		for i, t := range tokens {
			if t.kind == quoted && IsReserved(sql[t.start+1:t.end-1]) {
				return nil, p.wrap(i, fmt.Errorf("%s is a reserved name", sql[t.start:t.end]))
			}
		}
	}
	return st, nil
}

func (p *parser) isTransaction() bool {
	switch p.peek(0) {
	case "BEGIN", "COMMIT", "ROLLBACK", "ABORT", "END", "SAVEPOINT":
		return true
	case "START":
		return p.peek(1) == "TRANSACTION"
	}
	return false
}

func (p *parser) statement(st *Statement) error {
	start := p.pos
	if end := p.find(0, len(p.tokens), "RETURNING"); end < len(p.tokens) {
		return p.wrap(end, errReturning)
	}
	switch verb := p.next(); verb {
	case Insert:
		st.Verb = verb
		return p.insert(st)
	case Update:
		st.Verb = verb
		return p.update(st)
	case Delete:
		st.Verb = verb
		return p.delete(st)
	case Merge:
		st.Verb = verb
		return p.merge(st)
	}
	if st.With != "" {
		return p.wrap(start, errors.New("WITH must be followed by SELECT, INSERT, UPDATE, DELETE or MERGE"))
	}
	switch verb := p.upper(start); verb {
	case Truncate:
		st.Verb = verb
		p.accept("TABLE")
		return p.target(st)
	case "CREATE", "DROP", "ALTER":
		return p.definition(st, verb)
	case "":
		return p.wrap(start, errors.New("the statement is empty"))
	default:
		return p.wrap(start, fmt.Errorf("%s is not supported: a statement that changes something begins with INSERT, UPDATE, DELETE, MERGE, TRUNCATE, CREATE, DROP or ALTER", verb))
	}
}
