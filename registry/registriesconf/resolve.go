package registriesconf

import (
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/registry/reference"
)

// Endpoint is one place to ask for a container.
type Endpoint struct {
	// Reference is what to ask for there: its Domain is the host, and the Repository may differ from the user's.
	Reference reference.Reference
	// Insecure allows plain http and certificates that nobody vouches for.
	Insecure bool
	// Mirror says that this isn't the registry that the name means but a mirror of it.
	Mirror bool
}

// BlockedError says that a file forbids a registry.
type BlockedError struct{ Name, Place string }

func (e *BlockedError) Error() string {
	return fmt.Sprintf("finding %s: its registry is blocked in %s", e.Name, e.Place)
}

// Names gives the full names that the short name r may stand for, in the order to try them: its alias alone if it has
// one, else r in every registry of the search list. A name that isn't short is returned alone.
func (c *Config) Names(r reference.Reference) ([]reference.Reference, error) {
	if !r.IsShort() {
		return []reference.Reference{r}, nil
	}
	if a, ok := c.aliases[r.Repository]; ok {
		full, err := reference.Parse(a.target)
		if err != nil {
			return nil, fmt.Errorf("following the alias %q of %s: %w", r.Repository, a.place, err)
		}
		full.Tag, full.Digest = r.Tag, r.Digest
		return []reference.Reference{full}, nil
	}
	if len(c.Search) == 0 {
		return nil, fmt.Errorf("finding %s: the short name has no alias, and registries.conf has no unqualified-search-registries; "+
			"write the registry too, such as %s", r, inHub(r))
	}
	if c.Mode == Enforcing && len(c.Search) > 1 {
		return nil, fmt.Errorf("finding %s: registries.conf has short-name-mode \"enforcing\" and several registries (%s); "+
			"write the registry too, or add an alias", r, strings.Join(c.Search, ", "))
	}
	var names []reference.Reference
	for _, registry := range c.Search {
		full, err := r.In(registry)
		if err != nil {
			return nil, err
		}
		names = append(names, full)
	}
	return names, nil
}

func inHub(r reference.Reference) reference.Reference {
	r.Domain = reference.DockerHub
	if !strings.Contains(r.Repository, "/") {
		r.Repository = "library/" + r.Repository
	}
	return r
}

// PullFrom gives the places to pull r from, in the order to try them: the mirrors that serve it, then its registry. r must
// have a Domain. A blocked registry gives a *BlockedError.
func (c *Config) PullFrom(r reference.Reference) ([]Endpoint, error) {
	entry, rest, found := c.find(r)
	if !found {
		return []Endpoint{{Reference: r}}, nil
	}
	var list []Endpoint
	for _, m := range entry.mirrors {
		if !m.serves(r, entry.digestOnly) {
			continue
		}
		e, err := entry.endpoint(r, m.location, rest)
		if err != nil {
			return nil, err
		}
		e.Insecure, e.Mirror = m.insecure, true
		list = append(list, e)
	}
	primary, err := c.PushTo(r)
	if err != nil {
		return nil, err
	}
	return append(list, primary), nil
}

// PushTo gives the place to push r to, which is never a mirror. r must have a Domain. A blocked registry gives a
// *BlockedError.
func (c *Config) PushTo(r reference.Reference) (Endpoint, error) {
	entry, rest, found := c.find(r)
	if !found {
		return Endpoint{Reference: r}, nil
	}
	if entry.blocked {
		return Endpoint{}, &BlockedError{Name: r.Name(), Place: entry.place}
	}
	e, err := entry.endpoint(r, entry.location, rest)
	e.Insecure = entry.insecure
	return e, err
}

func (m mirror) serves(r reference.Reference, digestOnly bool) bool {
	if r.Digest != "" {
		return m.pull != "tag-only"
	}
	return !digestOnly && m.pull != "digest-only"
}

// endpoint puts location in the place of the prefix that matched; rest is what follows it.
func (e registry) endpoint(r reference.Reference, location, rest string) (Endpoint, error) {
	if location == "" {
		return Endpoint{Reference: r}, nil
	}
	to, err := reference.Parse(location + rest)
	if err != nil {
		return Endpoint{}, fmt.Errorf("rewriting %s by %s: %w", r, e.place, err)
	}
	to.Transport = r.Transport
	return Endpoint{Reference: to}, nil
}

// find gives the table with the longest prefix of r, and what follows the prefix.
func (c *Config) find(r reference.Reference) (best registry, rest string, found bool) {
	r.Transport = reference.None
	name := r.String()
	for _, e := range c.registries {
		after, ok := match(e.prefix, name)
		if ok && (!found || len(e.prefix) > len(best.prefix)) {
			best, rest, found = e, after, true
		}
	}
	return best, rest, found
}

// match reports whether prefix, which may begin with "*.", covers name, and gives what follows it in name.
func match(prefix, name string) (rest string, ok bool) {
	if domain, wild := strings.CutPrefix(prefix, "*"); wild {
		i := strings.Index(name, domain)
		if i < 1 || strings.ContainsAny(name[:i], "/:@") {
			return "", false
		}
		prefix = name[:i] + domain
	}
	rest, ok = strings.CutPrefix(name, prefix)
	if !ok || rest == "" {
		return rest, ok
	}
	// After a host only a slash goes on: example.com doesn't cover example.com:5000.
	if !strings.Contains(prefix, "/") {
		return rest, rest[0] == '/'
	}
	return rest, rest[0] == '/' || rest[0] == ':' || rest[0] == '@'
}
