package apt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// sources are the repositories of a session in the form that apt reads.
type sources struct {
	own         bool              // the tree's own sources, because the description has none
	files       map[string][]byte // by name, for sources.list.d
	keys        map[string][]byte // by name
	preferences string
	auth        string // for apt_auth.conf(5)
	secrets     []string
	binds       []sandbox.Bind
	list        []source
}

// source is one repository.
type source struct {
	repo  description.Repository
	alias string // a file name
	uri   string // without a secret, as apt inside of the sandbox knows it
	local string // the directory on this machine, "" for one in the network
	keys  []byte // a keyring, nil for none
	user  string
	pass  string
}

// findSources looks at the repositories of a description.
func findSources(ctx context.Context, opts Options) (sources, error) {
	out := sources{files: map[string][]byte{}, keys: map[string][]byte{}}
	for _, repo := range opts.Image.Repositories {
		if repo.ImageOnly || len(repo.Architectures) > 0 && !slices.Contains(repo.Architectures, opts.Image.Arch) {
			continue
		}
		s, err := newSource(ctx, repo, opts)
		if err != nil {
			return sources{}, err
		}
		out.add(s)
	}
	if len(out.list) == 0 {
		out.own = true
		if len(opts.Image.Repositories) == 0 {
			opts.Log.Info("the description has no repositories: packages come from those of the root tree's /etc/apt")
		}
	}
	return out, nil
}

func (out *sources) add(s source) {
	if s.local != "" {
		target := insideRepos + "/" + strconv.Itoa(len(out.binds))
		out.binds = append(out.binds, sandbox.Bind{Source: s.local, Target: target, ReadOnly: true})
		s.uri = "file:" + target
	}
	signedBy := ""
	if s.keys != nil {
		out.keys[s.alias+".gpg"] = s.keys
		signedBy = insideDir + "/keys/" + s.alias + ".gpg"
	}
	out.list = append(out.list, s)
	out.files[fmt.Sprintf("%03d-%s.sources", len(out.files), s.alias)] = []byte(s.deb822(signedBy))
	out.preferences += s.pin()
	if s.user != "" || s.pass != "" {
		out.auth += fmt.Sprintf("machine %s login %s password %s\n", strings.TrimSuffix(s.uri, "/"), s.user, s.pass)
	}
	if s.pass != "" {
		out.secrets = append(out.secrets, s.pass, url.PathEscape(s.pass), url.QueryEscape(s.pass))
	}
}

// newSource understands one repository of a description.
func newSource(ctx context.Context, repo description.Repository, opts Options) (source, error) {
	s := source{repo: repo, alias: alias(repo), user: repo.Username, pass: repo.Password}
	switch repo.Type {
	case "", "apt-deb":
	default:
		return source{}, repo.Errorf("type", "use type=\"apt-deb\"", "apt can't read a repository of type %s", repo.Type)
	}
	if err := s.parse(repo, opts); err != nil {
		return source{}, err
	}
	if strings.ContainsAny(s.user+s.pass, " \t\r\n") {
		return source{}, repo.Errorf("password", "", "a user name or password with blanks can't be handed to apt (netrc(5) has no way to quote them)")
	}
	if repo.Customize != "" && opts.Log != nil {
		opts.Log.Warn("the script that customizes a repository is not run", "at", repo.At("customize").String(), "script", repo.Customize)
	}
	var err error
	if s.keys, err = readKeys(ctx, repo, opts.Files); err != nil {
		return source{}, err
	}
	if s.keys == nil && repo.RepoGPGCheck != description.False {
		if ring := systemKeyring(opts.Tree); ring != "" {
			if s.keys, err = opts.Tree.ReadFile(ring, maxKey); err != nil {
				return source{}, fmt.Errorf("reading the root tree's keys: %w", err)
			}
		}
	}
	return s, nil
}

// parse understands the repository's address.
func (s *source) parse(repo description.Repository, opts Options) error {
	fail := func(hint, format string, args ...any) error {
		e := repo.Errorf("", hint, format, args...)
		if !repo.SourcePos.IsZero() {
			e.Pos = repo.SourcePos
		}
		return e
	}
	raw := repo.Source
	local := func(path string) error {
		if !filepath.IsAbs(path) {
			if opts.Files.Dir == "" {
				return fail("use an absolute path", "the repository %s lies beside a description that is not on this machine", raw)
			}
			path = filepath.Join(opts.Files.Dir, path)
		}
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			return fail("", "the repository %s can't be read: %v", raw, errors.Join(err, notDirectory(info)))
		}
		path, err = filepath.Abs(path)
		s.local = path
		return err
	}
	if strings.HasPrefix(raw, "/") {
		return local(raw)
	}
	if strings.HasPrefix(raw, "obsrepositories:") {
		return fail("give the repository's https address", "%s has a meaning inside of the Open Build Service only", raw)
	}
	u, err := url.Parse(openBuildService(raw))
	if err != nil {
		return fail("write it as http://host/path, file:///path or dir:///path", "the repository's address can't be read: %v", errors.Unwrap(err))
	}
	switch u.Scheme {
	case "file", "dir", "this":
		path := u.Path
		if u.Opaque != "" {
			path = u.Opaque
		}
		if u.Scheme == "this" {
			path = strings.TrimPrefix(filepath.Join(u.Host, path), "/")
		}
		return local(path)
	case "http", "https", "ftp":
		if u.User != nil {
			s.user = u.User.Username()
			s.pass, _ = u.User.Password()
			u.User = nil
		}
		u.RawQuery = ""
		s.uri = u.String()
		return nil
	}
	return fail("write it as http://host/path, file:///path or dir:///path", "repositories can't be read from %s", u.Redacted())
}

// openBuildService turns obs://PROJECT/REPOSITORY into the address that the public Open Build Service gives it. Other addresses stay as they are.
func openBuildService(address string) string {
	name, ok := strings.CutPrefix(address, "obs://")
	if !ok {
		return address
	}
	return "https://download.opensuse.org/repositories/" + strings.ReplaceAll(name, ":", ":/")
}

func notDirectory(info os.FileInfo) error {
	if info != nil && !info.IsDir() {
		return errors.New("it is no directory")
	}
	return nil
}

// alias is a file name for the repository that is the same in each build.
func alias(repo description.Repository) string {
	if repo.Alias == "" {
		sum := sha256.Sum256([]byte(repo.Source + " " + repo.Distribution))
		return "repository-" + hex.EncodeToString(sum[:6])
	}
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '_' // apt reads no file with another character in its name (sources.list(5))
	}, repo.Alias)
}

// deb822 is the repository in the form of sources.list(5). signedBy is the path of a keyring, or "" for the system's keys.
func (s source) deb822(signedBy string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Types: deb\nURIs: %s\n", s.uri)
	if s.repo.Distribution == "" {
		text.WriteString("Suites: ./\n")
	} else {
		components := s.repo.Components
		if len(components) == 0 {
			components = []string{"main"}
		}
		fmt.Fprintf(&text, "Suites: %s\n", s.repo.Distribution)
		if !strings.HasSuffix(s.repo.Distribution, "/") {
			fmt.Fprintf(&text, "Components: %s\n", strings.Join(components, " "))
		}
	}
	if s.repo.RepoGPGCheck == description.False {
		text.WriteString("Trusted: yes\n")
	}
	if signedBy != "" {
		fmt.Fprintf(&text, "Signed-By: %s\n", signedBy)
	}
	return text.String()
}

// pin is the repository's priority in the form of apt_preferences(5). All of one host share it, as in KIWI.
func (s source) pin() string {
	if s.repo.Priority == 0 {
		return ""
	}
	host := ""
	if u, err := url.Parse(s.uri); err == nil {
		host = u.Hostname()
	}
	return fmt.Sprintf("Package: *\nPin: origin \"%s\"\nPin-Priority: %d\n\n", host, s.repo.Priority)
}
