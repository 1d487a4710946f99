package stack

import (
	"fmt"
	"io"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// Report says what was stacked and what clashed. It is kept as JSON beside the results.
type Report struct {
	Rule       string      `json:"rule"` // follow or rsync
	Containers []Container `json:"containers"`
	// Clashes are the paths at which a later container met something of an earlier one, in the order of paths.
	Clashes []Clash `json:"clashes"`
	// Accounts are users and groups whose numbers mean something else after stacking.
	Accounts []AccountClash `json:"accounts"`
	// Mismatches are reasons to doubt that these containers make one system.
	Mismatches []Mismatch `json:"mismatches"`
}

// Container is one of the stacked containers.
type Container struct {
	Name         string   `json:"name"`
	Digest       string   `json:"digest"`
	From         string   `json:"from"`         // where it was found: the store, podman or a registry
	Architecture string   `json:"architecture"` // as uname -m prints it
	Distribution string   `json:"distribution,omitempty"`
	Packages     []string `json:"package_databases,omitempty"`
	Entries      int      `json:"entries"`
	Bytes        int64    `json:"bytes"` // of all files
}

// Clash is a path that two containers have.
type Clash struct {
	Path string `json:"path"`
	Kind string `json:"kind"`
	From string `json:"from"` // the container that had it
	Took string `json:"took"` // the later container whose entry is there now
}

// AccountClash is an account that means something else in a later container.
type AccountClash struct {
	inspect.Clash
	From string `json:"from"`
	Took string `json:"took"`
}

// Mismatch is a property in which two containers differ.
type Mismatch struct {
	What string `json:"what"` // architecture, distribution or package database
	From string `json:"from"`
	Has  string `json:"has"`
	Took string `json:"took"`
	Now  string `json:"now"`
}

// The properties in which containers may not match.
const (
	whatArchitecture = "architecture"
	whatDistribution = "distribution"
	whatPackages     = "package database"
)

func (m Mismatch) String() string {
	return fmt.Sprintf("%s: %s is %s and %s is %s", m.What, m.From, m.Has, m.Took, m.Now)
}

// shown is how many lines of one kind the short form shows.
const shown = 5

// WriteText writes the short form for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for i, c := range r.Containers {
		fmt.Fprintf(&b, "%d. %s  %s  %s  %d entries\n", i+1, c.Name, c.Architecture, c.Distribution, c.Entries)
	}
	for _, m := range r.Mismatches {
		fmt.Fprintf(&b, "mismatch of %s\n", m)
	}
	kinds := []string{}
	byKind := map[string][]Clash{}
	for _, c := range r.Clashes {
		if byKind[c.Kind] == nil {
			kinds = append(kinds, c.Kind)
		}
		byKind[c.Kind] = append(byKind[c.Kind], c)
	}
	for _, kind := range kinds {
		list := byKind[kind]
		fmt.Fprintf(&b, "%s: %d\n", kind, len(list))
		for _, c := range list[:min(shown, len(list))] {
			fmt.Fprintf(&b, "  %q of %s, now of %s\n", "/"+c.Path, c.From, c.Took)
		}
		if len(list) > shown {
			fmt.Fprintf(&b, "  … and %d more\n", len(list)-shown)
		}
	}
	for i, a := range r.Accounts {
		if i == shown {
			fmt.Fprintf(&b, "  … and %d more accounts\n", len(r.Accounts)-shown)
			break
		}
		if a.Taken != "" {
			fmt.Fprintf(&b, "%s: %d was %s in %s and is %s in %s\n", a.Database, a.Was, a.Name, a.From, a.Taken, a.Took)
		} else {
			fmt.Fprintf(&b, "%s: %s was %d in %s and is %d in %s\n", a.Database, a.Name, a.Was, a.From, a.Now, a.Took)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// compare fills in mismatches and account clashes of each container with those before it.
func (r *Report) compare(trees []*layers.Tree) error {
	accounts := make([]inspect.Accounts, len(trees))
	for i, tree := range trees {
		var err error
		if accounts[i], err = inspect.ReadAccounts(tree); err != nil {
			return fmt.Errorf("reading the accounts of %s: %w", r.Containers[i].Name, err)
		}
	}
	for i := 1; i < len(r.Containers); i++ {
		for j := range i {
			from, took := r.Containers[j], r.Containers[i]
			r.mismatch(whatArchitecture, from.Name, from.Architecture, took.Name, took.Architecture)
			r.mismatch(whatDistribution, from.Name, from.Distribution, took.Name, took.Distribution)
			r.mismatch(whatPackages, from.Name, strings.Join(from.Packages, ", "), took.Name, strings.Join(took.Packages, ", "))
			for _, clash := range accounts[j].Compare(accounts[i]) {
				r.Accounts = append(r.Accounts, AccountClash{Clash: clash, From: from.Name, Took: took.Name})
			}
		}
	}
	return nil
}

// mismatch notes a difference; a container that says nothing fits every other.
func (r *Report) mismatch(what, from, has, took, now string) {
	if has != "" && now != "" && has != now {
		r.Mismatches = append(r.Mismatches, Mismatch{What: what, From: from, Has: has, Took: took, Now: now})
	}
}

// MismatchError says that containers can't make one system.
type MismatchError struct {
	Mismatches []Mismatch
}

func (e *MismatchError) Error() string {
	texts := make([]string, len(e.Mismatches))
	for i, m := range e.Mismatches {
		texts[i] = m.String()
	}
	return "stacking containers that do not fit together: " + strings.Join(texts, "; ") + "; give others, or --force if it is meant"
}

// fatal returns an error for mismatches that leave no working system: programs of one container could not run beside those of another.
func (r *Report) fatal() error {
	var found []Mismatch
	for _, m := range r.Mismatches {
		if m.What == whatArchitecture {
			found = append(found, m)
		}
	}
	if found == nil {
		return nil
	}
	return &MismatchError{found}
}
