package icecat

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// TakeLease takes or extends a named lease for a holder. It returns false if another holder has the lease. If the other
// lease would last much longer than duration from now, it is ignored, because somebody must have set the clock back.
func (d *database) TakeLease(ctx context.Context, name, holder string, duration time.Duration) (ok bool, err error) {
	err = d.inTx(ctx, func(t *transaction) {
		now := time.Now()
		var other string
		var end int64
		for _, v := range t.queryStrings(`SELECT value FROM partd_info WHERE key=?`, "lease "+name) {
			if _, err := fmt.Sscan(v, &end, &other); err != nil {
				other = "" // a later version may have another format
			}
		}
		remaining := time.UnixMilli(end).Sub(now)
		ok = other == "" || other == holder || remaining <= 0 || remaining > 2*duration
		if ok {
			t.putInfo("lease "+name, fmt.Sprintf("%d %s", now.Add(duration).UnixMilli(), holder))
		}
	})
	if errors.Is(wrapConflict(err), ErrConflict) { // another process tries at the same time
		return false, nil
	}
	return ok && err == nil, err
}

// DropLease ends a lease if the holder has it.
func (d *database) DropLease(ctx context.Context, name, holder string) error {
	return d.inTx(ctx, func(t *transaction) {
		t.exec(`DELETE FROM partd_info WHERE key=? AND value LIKE ?`, "lease "+name, "% "+holder)
	})
}

// Moment returns the time that SetMoment recorded under a name, or the zero time.
func (d *database) Moment(ctx context.Context, name string) (time.Time, error) {
	text, err := d.firstString(ctx, `SELECT value FROM partd_info WHERE key=?`, "time "+name)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, text)
}

// SetMoment records a time under a name.
func (d *database) SetMoment(ctx context.Context, name string, timestamp time.Time) error {
	return d.inTx(ctx, func(t *transaction) { t.putInfo("time "+name, timestamp.UTC().Format(time.RFC3339)) })
}

// Origins returns the IDs of the catalogs from which this catalog has received all tables, by copies, backups or a
// restore.
func (d *database) Origins(ctx context.Context) ([]string, error) {
	return d.queryStrings(ctx, `SELECT substr(key, 8) FROM partd_info WHERE key LIKE 'origin %'`)
}

// AddOrigins adds IDs to Origins.
func (d *database) AddOrigins(ctx context.Context, ids ...string) error {
	return d.inTx(ctx, func(t *transaction) {
		for _, id := range ids {
			t.putInfo("origin "+id, "")
		}
	})
}

func (t *transaction) putInfo(key, value string) {
	t.exec(`INSERT INTO partd_info VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value=excluded.value`, key, value)
}
