package registriesconf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/registry/reference"
)

// merge checks f and lets it win over what c has.
func (c *Config) merge(f *file) error {
	if f.Search != nil {
		for _, r := range *f.Search {
			if err := checkLocation(r); err != nil {
				return &Error{File: f.path, Line: f.line("unqualified-search-registries", 0), Text: err.Error()}
			}
		}
		c.Search = *f.Search
	}
	if f.CredentialHelpers != nil {
		c.CredentialHelpers = f.CredentialHelpers
	}
	switch Mode(f.Mode) {
	case "":
	case Enforcing, Permissive, Disabled:
		c.Mode = Mode(f.Mode)
	default:
		return &Error{File: f.path, Line: f.line("short-name-mode", 0),
			Text: fmt.Sprintf("short-name-mode %q isn't known; enforcing, permissive and disabled are", f.Mode)}
	}
	for i, t := range f.Registries {
		r, err := f.registry(t, i)
		if err != nil {
			return err
		}
		c.registries = slices.DeleteFunc(c.registries, func(old registry) bool { return old.prefix == r.prefix && !strings.HasPrefix(old.place, f.path+":") })
		if slices.ContainsFunc(c.registries, func(old registry) bool { return old.prefix == r.prefix }) {
			return &Error{File: f.path, Line: f.line("[[registry]]", i), Text: fmt.Sprintf("the prefix %q has a table already", r.prefix)}
		}
		c.registries = append(c.registries, r)
	}
	return c.mergeAliases(f)
}

// registry checks the nth [[registry]] of f.
func (f *file) registry(t table, nth int) (registry, error) {
	line := f.line("[[registry]]", nth)
	bad := func(format string, args ...any) (registry, error) {
		return registry{}, &Error{File: f.path, Line: line, Text: fmt.Sprintf(format, args...)}
	}
	t.Prefix, t.Location = trimSlash(t.Prefix), trimSlash(t.Location)
	wildcard := strings.HasPrefix(t.Prefix, "*.")
	switch {
	case t.Prefix == "" && t.Location == "":
		return bad("a [[registry]] needs prefix or location")
	case t.Prefix == "":
		t.Prefix = t.Location
	case t.Location == "" && !wildcard:
		t.Location = t.Prefix
	}
	if err := checkPrefix(strings.TrimPrefix(t.Prefix, "*.")); err != nil {
		return bad("prefix: %v", err)
	}
	if t.Location != "" {
		if err := checkPrefix(t.Location); err != nil {
			return bad("location: %v", err)
		}
	}
	if t.PullFromMirror != "" {
		return bad("pull-from-mirror belongs in a [[registry.mirror]]")
	}
	r := registry{prefix: t.Prefix, location: t.Location, insecure: t.Insecure, blocked: t.Blocked, digestOnly: t.DigestOnly,
		place: fmt.Sprintf("%s:%d", f.path, line)}
	for _, m := range t.Mirrors {
		location := trimSlash(m.Location)
		if err := checkPrefix(location); err != nil {
			return bad("mirror: %v", err)
		}
		switch m.PullFromMirror {
		case "", "all", "digest-only", "tag-only":
		default:
			return bad("pull-from-mirror %q isn't known; all, digest-only and tag-only are", m.PullFromMirror)
		}
		if m.PullFromMirror != "" && t.DigestOnly {
			return bad("pull-from-mirror and mirror-by-digest-only can't stand together")
		}
		r.mirrors = append(r.mirrors, mirror{location: location, insecure: m.Insecure, pull: m.PullFromMirror})
	}
	return r, nil
}

func (c *Config) mergeAliases(f *file) error {
	for name, target := range f.Aliases {
		line := max(f.line(fmt.Sprintf("%q=", name), 0), f.line(name+"=", 0))
		if target == "" {
			delete(c.aliases, name)
			continue
		}
		short, err := reference.Parse(name)
		if err != nil || !short.IsShort() || short.Tag != "" || short.Digest != "" {
			return &Error{File: f.path, Line: line, Text: fmt.Sprintf("%q is no short name without tag and registry, as an alias must be", name)}
		}
		full, err := reference.Parse(target)
		if err != nil || full.Transport != reference.None || full.Domain == "" || full.Tag != "" || full.Digest != "" {
			return &Error{File: f.path, Line: line,
				Text: fmt.Sprintf("the alias %q leads to %q, which isn't REGISTRY/NAME without tag and digest", name, target)}
		}
		c.aliases[name] = alias{target: target, place: fmt.Sprintf("%s:%d", f.path, line)}
	}
	return nil
}

func trimSlash(s string) string { return strings.TrimRight(s, "/") }

// checkLocation checks HOST[:PORT][/NAMESPACE...].
func checkLocation(s string) error {
	_, err := reference.Reference{Repository: "x"}.In(trimSlash(s))
	return err
}

// checkPrefix checks HOST[:PORT][/NAMESPACE...][:TAG|@DIGEST].
func checkPrefix(s string) error {
	if !strings.Contains(s, "/") {
		return checkLocation(s)
	}
	r, err := reference.Parse(s)
	if err == nil && (r.Transport != reference.None || r.Domain == "") {
		return checkLocation(s)
	}
	return err
}
