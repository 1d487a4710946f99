// Package registriesconf reads containers-registries.conf(5), version 2 and the lists of version 1, and answers from it
// where a container is to be had: which registries a short name is searched in, which mirrors come before a registry,
// which are blocked and which may be spoken to without verified TLS.
package registriesconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Mode says what happens when a short name could come from several registries.
type Mode string

// The modes of short-name-mode. Nobody is ever asked here, so Permissive and Disabled are the same.
const (
	Enforcing  Mode = "enforcing"
	Permissive Mode = "permissive"
	Disabled   Mode = "disabled"
)

// Config is what all files together say. It is read-only once loaded. The zero value is that of a machine without files.
type Config struct {
	// Search lists the registries, HOST[:PORT][/NAMESPACE], that a short name without alias is looked for in.
	Search []string
	// Mode is Permissive if no file says otherwise.
	Mode Mode
	// CredentialHelpers are the default credential helpers; "containers-auth.json" stands for the login files.
	CredentialHelpers []string

	registries []registry
	aliases    map[string]alias
}

// registry is one [[registry]] table with its place.
type registry struct {
	prefix, location string
	insecure         bool
	blocked          bool
	digestOnly       bool
	mirrors          []mirror
	place            string
}

type mirror struct {
	location string
	insecure bool
	pull     string
}

type alias struct{ target, place string }

// Error is a mistake in a file.
type Error struct {
	File string
	// Line counts from 1; 0 means that the mistake isn't in one line.
	Line int
	Text string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("reading %s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("reading %s:%d: %s", e.File, e.Line, e.Text)
}

// Options says where the files are.
type Options struct {
	// Getenv looks up CONTAINERS_REGISTRIES_CONF, HOME, XDG_CONFIG_HOME and XDG_CACHE_HOME; nil means os.Getenv.
	Getenv func(string) string
	// File is read in place of $CONTAINERS_REGISTRIES_CONF and the usual main file.
	File string
	// Rootless chooses the user's cache of short-name aliases in place of root's.
	Rootless bool
	// Root is put before /etc and /var; empty outside of tests.
	Root string
}

// Load reads the main file, the drop-in files of the system and the user in the order of containers-registries.conf.d(5),
// and the aliases that podman has recorded. Later files win table by table. Files that don't exist are passed over, unless
// the user named one. Errors in a file are *Error.
func Load(opts Options) (*Config, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	c := &Config{Mode: Permissive, aliases: map[string]alias{}}
	paths, err := opts.files()
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		data, err := os.ReadFile(p.path)
		if err != nil {
			if p.optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
				continue
			}
			return nil, fmt.Errorf("reading the registries' configuration: %w", err)
		}
		f, err := parse(p.path, data)
		if err != nil {
			return nil, err
		}
		if p.aliasesOnly {
			f = &file{Aliases: f.Aliases, path: f.path, data: f.data}
		}
		if err := c.merge(f); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// source is one file to read.
type source struct {
	path        string
	optional    bool
	aliasesOnly bool
}

func (o Options) files() ([]source, error) {
	home := o.Getenv("HOME")
	config := o.Getenv("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	var list []source
	named := o.File
	if named == "" {
		named = o.Getenv("CONTAINERS_REGISTRIES_CONF")
	}
	user := filepath.Join(config, "containers", "registries.conf")
	switch _, err := os.Stat(user); {
	case named != "":
		list = append(list, source{path: named})
	case config != "" && err == nil:
		list = append(list, source{path: user})
	default:
		list = append(list, source{path: o.Root + "/etc/containers/registries.conf", optional: true})
	}
	dirs := []string{o.Root + "/etc/containers/registries.conf.d"}
	if config != "" {
		dirs = append(dirs, filepath.Join(config, "containers", "registries.conf.d"))
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("reading the registries' configuration: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && !e.IsDir() {
				list = append(list, source{path: filepath.Join(dir, e.Name()), optional: true})
			}
		}
	}
	return append(list, source{path: o.aliasCache(home), optional: true, aliasesOnly: true}), nil
}

// aliasCache is where podman records the short names that its user has chosen.
func (o Options) aliasCache(home string) string {
	const name = "containers/short-name-aliases.conf"
	if !o.Rootless {
		return o.Root + "/var/cache/" + name
	}
	if cache := o.Getenv("XDG_CACHE_HOME"); cache != "" {
		return filepath.Join(cache, name)
	}
	return filepath.Join(home, ".cache", name)
}

// file is one file as it is written.
type file struct {
	Search            *[]string         `toml:"unqualified-search-registries"`
	CredentialHelpers []string          `toml:"credential-helpers"`
	Mode              string            `toml:"short-name-mode"`
	Registries        []table           `toml:"registry"`
	Aliases           map[string]string `toml:"aliases"`
	V1                struct {
		Search   list `toml:"search"`
		Insecure list `toml:"insecure"`
		Block    list `toml:"block"`
	} `toml:"registries"`

	path string
	data []byte
}

type list struct {
	Registries []string `toml:"registries"`
}

// table is one [[registry]] or [[registry.mirror]].
type table struct {
	Prefix         string  `toml:"prefix"`
	Location       string  `toml:"location"`
	Insecure       bool    `toml:"insecure"`
	Blocked        bool    `toml:"blocked"`
	DigestOnly     bool    `toml:"mirror-by-digest-only"`
	PullFromMirror string  `toml:"pull-from-mirror"`
	Mirrors        []table `toml:"mirror"`
}

// parse reads one file and turns the lists of version 1 into tables.
func parse(path string, data []byte) (*file, error) {
	f := &file{path: path, data: data}
	if _, err := toml.Decode(string(data), f); err != nil {
		var bad toml.ParseError
		if errors.As(err, &bad) {
			text := bad.Message
			if text == "" {
				text = strings.TrimPrefix(err.Error(), "toml: ")
			}
			return nil, &Error{File: path, Line: bad.Position.Line, Text: oneLine(text)}
		}
		// A value of the wrong type is told as text only: toml: line 1 (last key "x"): ...
		text := strings.TrimPrefix(err.Error(), "toml: ")
		line := 0
		if n, scanErr := fmt.Sscanf(text, "line %d ", &line); n == 1 && scanErr == nil {
			text = strings.TrimPrefix(text, fmt.Sprintf("line %d ", line))
		}
		return nil, &Error{File: path, Line: line, Text: oneLine(text)}
	}
	isV1 := len(f.V1.Search.Registries)+len(f.V1.Insecure.Registries)+len(f.V1.Block.Registries) > 0
	if !isV1 {
		return f, nil
	}
	if f.Search != nil || len(f.Registries) > 0 {
		return nil, &Error{File: path, Line: f.line("[registries", 0),
			Text: "version 1 ([registries.search] ...) and version 2 ([[registry]], unqualified-search-registries) are mixed; keep version 2"}
	}
	f.Search = &f.V1.Search.Registries
	for _, location := range slices.Concat(f.V1.Insecure.Registries, f.V1.Block.Registries) {
		if !slices.ContainsFunc(f.Registries, func(t table) bool { return t.Location == location }) {
			f.Registries = append(f.Registries, table{Location: location,
				Insecure: slices.Contains(f.V1.Insecure.Registries, location), Blocked: slices.Contains(f.V1.Block.Registries, location)})
		}
	}
	return f, nil
}

// line finds the nth line, counted from 0, that begins with text; 0 if there is none. The TOML library tells no places of
// values.
func (f *file) line(text string, nth int) int {
	n := 0
	for line := range strings.Lines(string(f.data)) {
		n++
		if strings.HasPrefix(strings.ReplaceAll(strings.TrimSpace(line), " ", ""), text) {
			if nth == 0 {
				return n
			}
			nth--
		}
	}
	return 0
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
