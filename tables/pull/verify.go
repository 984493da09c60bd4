package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/content"
)

// Finding is a problem that Verify found.
type Finding struct {
	Node     string `json:"node"`  // its address; "": this node
	Table    string `json:"table"` // "" for a problem of the whole node
	File     string `json:"file,omitempty"`
	Problem  string `json:"problem"`
	Repaired bool   `json:"repaired"` // whether it has been repaired
}

// Verify reads all files of the newest versions in this directory and compares them with
// their hashes, makes all other nodes do the same, and compares what they hold with the
// registry. It replaces damaged files by intact ones from other nodes. Its error says that
// it could not do this; what is wrong is in the findings.
func (n *Node) Verify(ctx context.Context) (all []Finding, err error) {
	defer failed("verify", n.disk.dir, &err)
	if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
		return nil, err
	}
	if all, err = n.verifyOwn(ctx); err != nil {
		return all, err
	}
	peers := n.reg.peers(record{})
	for _, p := range peers {
		found, err := n.askVerify(ctx, p)
		if err != nil {
			found = []Finding{{Problem: err.Error()}}
		}
		for i := range found {
			found[i].Node = p.address
		}
		all = append(all, found...)
	}
	for _, t := range n.reg.records() {
		heads, _ := n.askHeads(ctx, keyOf(t.Name), peers) // who does not answer is a finding already
		for p, h := range heads {
			if h.Version > t.Version || h.Version == t.Version && h.Manifest != t.Manifest {
				all = append(all, Finding{Node: p.address, Table: t.Name, Problem: fmt.Sprintf("it has version %d, of another content than version %d of the registry", h.Version, t.Version)})
			}
		}
	}
	return all, nil
}

func (n *Node) askVerify(ctx context.Context, p peer) (found []Finding, err error) {
	const most = 1 << 20 // bytes of findings
	answer, err := n.request(ctx, http.MethodPost, p.address+verifyPath, 0)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	err = json.NewDecoder(io.LimitReader(answer.Body, most)).Decode(&found)
	return found, err
}

// verifyOwn checks the files of this directory.
func (n *Node) verifyOwn(ctx context.Context) ([]Finding, error) {
	n.checking.Lock()
	defer n.checking.Unlock()
	all := []Finding{}
	err := n.disk.heads(func(key string, h head) error {
		check := func(f content.Named) error {
			file, err := n.disk.Open(ctx, f)
			if err == nil {
				return file.Close()
			}
			if !errors.Is(err, content.ErrDamaged) { // a range alone was loaded, or another process is at it
				return nil
			}
			found := Finding{Table: h.Name, File: f.Hash, Problem: err.Error(), Repaired: true}
			if err := n.mend(ctx, h.record, f, err); err != nil {
				found.Problem, found.Repaired = err.Error(), false
			}
			all = append(all, found)
			return canceled.Err(ctx)
		}
		if err := check(h.file()); err != nil {
			return err
		}
		m, err := n.manifest(ctx, h.record)
		if err != nil {
			all = append(all, Finding{Table: h.Name, File: h.Manifest, Problem: err.Error()})
			return canceled.Err(ctx)
		}
		for _, f := range m.files {
			if err := check(f.Named); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}
