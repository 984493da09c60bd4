package page

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/wire"
	"github.com/go-partd/partd/tables/transform"
)

// actionJSON is what any action takes.
type actionJSON struct {
	Action       string   `json:"action"`
	Bucket       string   `json:"bucket"`
	TargetBucket *string  `json:"target_bucket"`
	Table        string   `json:"table"`
	Tables       []string `json:"tables"`
	Name         string   `json:"name"`
	Source       string   `json:"source"`
	Sources      []string `json:"sources"`
	Target       string   `json:"target"`
	Mode         string   `json:"mode"`
	Where        string   `json:"where"`
	Rule         string   `json:"rule"`
	Time         string   `json:"time"`
	Functions    []string `json:"functions"`
	Columns      []string `json:"columns"`
	SQL          string   `json:"sql"`
	How          string   `json:"how"`
	On           []string `json:"on"`
	DropNulls    []string `json:"drop_nulls"`
	DropAnyNull  bool     `json:"drop_any_null"`
	KeepFirstOf  []string `json:"keep_first_of"`
}

type rowsJSON struct {
	Source int64 `json:"source_rows"`
	Target int64 `json:"target_rows"`
}

// action is one of those that there are: its turn, what it does, and the same as a
// command.
type action struct {
	turn    func(context.Context) (func(), error)
	do      func(context.Context, *tables.Store, *actionJSON) (any, error)
	command func(*command, *actionJSON)
}

var actions = map[string]action{
	"delete": {flightd.AcquirePut, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		if len(a.Tables) == 0 {
			return nil, invalid("which tables, tables must say")
		}
		return struct{}{}, s.Bucket(a.Bucket).Delete(ctx, a.Tables...)
	}, func(c *command, a *actionJSON) { c.add("delete").place(a).names(a.Tables...) }},

	"delete-rows": {flightd.AcquirePut, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		where, err := filter.Parse(a.Where)
		if err != nil {
			return nil, err
		}
		done, err := s.Bucket(a.Bucket).DeleteRows(ctx, a.Table, where)
		return map[string]int64{"version": int64(done.Version), "deleted": done.Deleted}, err
	}, func(c *command, a *actionJSON) { c.add("delete-rows").place(a).flag("where", a.Where).names(a.Table) }},

	"snapshot": {flightd.AcquirePut, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		name, err := s.Bucket(a.Bucket).Snapshot(ctx, a.Name)
		return map[string]string{"name": name}, err
	}, func(c *command, a *actionJSON) { c.add("snapshot", "create").place(a).names(a.Name) }},

	"delete-snapshot": {flightd.AcquirePut, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		return struct{}{}, s.Bucket(a.Bucket).DeleteSnapshot(ctx, a.Name)
	}, func(c *command, a *actionJSON) { c.add("snapshot", "delete").place(a).names(a.Name) }},

	"restore": {flightd.AcquirePut, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		return struct{}{}, s.Bucket(a.Bucket).Restore(ctx, a.Name, a.Tables...)
	}, func(c *command, a *actionJSON) {
		c.add("snapshot", "restore").place(a).names(append([]string{a.Name}, a.Tables...)...)
	}},

	"resample": {flightd.AcquireBoth, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		o := &transform.ResampleOptions{
			Source: a.source(a.Source), Target: a.target(), SQL: a.SQL, Rule: a.Rule, TimeColumn: a.Time, Functions: a.Functions, Columns: a.Columns,
			Mode: wire.PutModes[a.Mode],
		}
		r, err := transform.Resample(ctx, s, o)
		return transformed(r), err
	}, func(c *command, a *actionJSON) {
		c.add("resample").place(a).to(a).flag("rule", a.Rule).flag("time", a.Time).list("func", a.Functions).list("columns", a.Columns).flag("sql", a.SQL)
		c.names(a.Source, a.Target)
	}},

	"combine": {flightd.AcquireBoth, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		o := &transform.CombineOptions{Target: a.target(), How: cmp.Or(a.How, "union"), On: a.On, Mode: wire.PutModes[a.Mode]}
		for _, name := range a.Sources {
			o.Sources = append(o.Sources, a.source(name))
		}
		if len(o.Sources) < 2 {
			return nil, invalid("which tables, sources must say: two or more")
		}
		r, err := transform.Combine(ctx, s, o)
		return transformed(r), err
	}, func(c *command, a *actionJSON) {
		c.add("combine").place(a).to(a).flag("how", a.How).list("on", a.On)
		c.names(append(slices.Clone(a.Sources), a.Target)...)
	}},

	"clean": {flightd.AcquireBoth, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		o := &transform.CleanOptions{
			Source: a.source(a.Source), Where: a.Where, DropNulls: a.DropNulls, DropAnyNull: a.DropAnyNull, KeepFirstOf: a.KeepFirstOf, Mode: wire.PutModes[a.Mode],
		}
		if a.Target != "" {
			to := a.target()
			o.Target = &to
		}
		r, err := transform.Clean(ctx, s, o)
		return transformed(r), err
	}, func(c *command, a *actionJSON) {
		if c.add("clean").place(a); a.Target != "" {
			c.to(a)
		}
		c.flag("where", a.Where).list("drop-nulls", a.DropNulls).list("keep-first-of", a.KeepFirstOf)
		if a.DropAnyNull {
			c.add("--drop-any-null")
		}
		c.names(a.Source, a.Target)
	}},
}

func transformed(r transform.Result) rowsJSON { return rowsJSON{r.SourceRows, r.TargetRows} }

func (a *actionJSON) source(name string) transform.TableName {
	return transform.TableName{Bucket: a.Bucket, Name: name}
}

func (a *actionJSON) target() transform.TableName {
	to := a.source(a.Target)
	if a.TargetBucket != nil {
		to.Bucket = *a.TargetBucket
	}
	return to
}

func (h *handler) action(q *request) error {
	a := &actionJSON{}
	if err := q.parse(a); err != nil {
		return err
	}
	the, ok := actions[a.Action]
	if !ok {
		return invalid("there is no action %.40q", a.Action)
	}
	dry, right := q.URL.Query().Get("dry") != "", flightd.Admin
	if dry {
		right = flightd.Read
	}
	if a.Mode == "" {
		a.Mode = map[bool]string{true: "append", false: "error"}[a.Action == "resample"]
	}
	_, wrong := modeOf(a.Mode)
	err := errors.Join(wrong, q.caller.MayUse(right, a.Bucket, a.target().Bucket),
		checkNames(slices.Concat(a.Tables, a.Sources, []string{a.Bucket, a.Table, a.Name, a.Source, a.Target, a.target().Bucket})...))
	if err != nil {
		return err
	}
	c := &command{h: h}
	the.command(c, a)
	if dry {
		text, err := c.String()
		if err != nil {
			return err
		}
		return q.reply(map[string]string{"command": text})
	}
	release, err := the.turn(q.ctx)
	if err != nil {
		return err
	}
	defer release()
	result, err := the.do(q.ctx, h.store, a)
	if err != nil {
		return ofClient(err)
	}
	text, _ := c.String() // "" where no command line can say it
	return q.reply(map[string]any{"result": result, "command": text})
}

// command is a command line of partd-tables.
type command struct {
	h    *handler
	args []string
	err  error
}

func (c *command) add(args ...string) *command {
	c.args = append(c.args, args...)
	return c
}

// flag adds one, unless its value is "".
func (c *command) flag(name, value string) *command {
	if value == "" {
		return c
	}
	return c.add("--"+name, value)
}

// list adds a flag that takes names with commas between them.
func (c *command) list(name string, values []string) *command {
	if len(values) == 0 {
		return c
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	err := w.Write(values)
	w.Flush()
	line := strings.TrimSuffix(text.String(), "\n")
	if again, late := csv.NewReader(strings.NewReader(line)).Read(); err != nil || late != nil || !slices.Equal(again, values) {
		c.err = errors.Join(c.err, invalid("no command line can say these %s: %q", name, values))
	}
	return c.add("--"+name, line)
}

// place adds where the tables are.
func (c *command) place(a *actionJSON) *command {
	c.flag("server", c.h.url)
	if c.h.opts.Secret != nil {
		c.flag("token-file", "token")
	}
	return c.flag("bucket", a.Bucket)
}

// to adds how, and in which bucket, a target is made.
func (c *command) to(a *actionJSON) *command {
	if c.flag("mode", a.Mode); a.TargetBucket != nil && *a.TargetBucket != a.Bucket {
		c.add("--target-bucket", *a.TargetBucket)
	}
	return c
}

// names adds those that are not "".
func (c *command) names(all ...string) {
	c.add("--").add(slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "" })...)
}

// String returns the line, quoted for a shell of POSIX.
func (c *command) String() (string, error) {
	words := []string{"partd-tables"}
	for _, arg := range c.args {
		if strings.ContainsRune(arg, 0) {
			return "", invalid("no command line can have a zero byte")
		}
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " "), c.err
}

func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,+@%", r)
	}
	if s != "" && strings.TrimLeftFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
