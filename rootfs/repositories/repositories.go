// Package repositories turns the repositories of a description into what package managers read: addresses, directories of this machine, keys and
// credentials. It knows the schemes of addresses and no package manager.
package repositories

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Dir is where programs in a sandbox find the directories of this machine that are repositories, and the keys.
const Dir = "/run/imgbuild/repositories"

// PublicOpenBuildService is what obs:// addresses are below where nothing else is said.
const PublicOpenBuildService = "https://download.opensuse.org/repositories"

// Repository is one repository.
type Repository struct {
	// Description is what the user wrote: type, priority, components, distribution, the switches for signatures, and where to point an error.
	Description description.Repository
	// Alias is fit for a file name or a section of an INI file, the same in each build, and unique in its set.
	Alias string
	// URI is the address as a program in a sandbox knows it, without secrets: http, https or ftp, or file:///... for a directory of this machine.
	// With the source type metalink or mirrorlist it is the address of that list: see [Repository.Mirrors].
	URI string
	// Local is the directory on this machine, "" for a repository in the network.
	Local string
	// Keys are the OpenPGP public keys as one binary keyring, nil if the description names none. KeyFile is where a program in a sandbox finds
	// them, one ASCII-armored block each, "" if there are none.
	Keys    []byte
	KeyFile string
	// NamedKeys are the keys of a repository for apk, which are RSA keys that are known by the names of their files; Keys is nil then.
	NamedKeys []NamedKey
	// User and Password are for the server, "" if it asks for none.
	User, Password string

	source source
}

// NamedKey is a file with a public key in the form of X.509 (PEM), such as alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub.
type NamedKey struct {
	Name string
	Data []byte
}

// Set is the repositories of a build.
type Set struct {
	// List is the repositories that packages are installed from, in order.
	List []Repository
	// Image is the repositories that the image itself is to have (imageinclude and imageonly). Of a directory that is only the image's to know (imageonly), URI
	// is the address there and Local is "".
	Image []Repository
	// Binds and Files are what every sandbox needs whose programs use the repositories.
	Binds []sandbox.Bind
	Files []sandbox.File
	// Secrets must not appear in a log or an error.
	Secrets []string
}

// Options are what Open works with.
type Options struct {
	Image *description.Image
	Files files.Source
	// Workdir is an existing directory for what must be unpacked, such as the content of an ISO image.
	Workdir string
	// Cache is a directory in which keys and lists of mirrors are kept for builds without the network; "" is none.
	Cache string
	// OpenBuildService is the address that obs://PROJECT/REPOSITORY is below; "" is the public one.
	OpenBuildService string
	// Offline forbids fetching keys and lists of mirrors from the network.
	Offline bool
}

// Open looks at the repositories of a description that count for its architecture: it understands the addresses, unpacks ISO images, reads keys and
// credentials. It does not ask whether a repository in the network is there. All that is wrong is told at once, at the places in the description.
func Open(ctx context.Context, opts Options) (*Set, error) {
	if opts.OpenBuildService == "" {
		opts.OpenBuildService = PublicOpenBuildService
	}
	o := opener{Options: opts, set: &Set{}, aliases: map[string]bool{}, keys: map[string][]byte{}}
	var wrong description.Errors
	for _, repo := range opts.Image.Repositories {
		if len(repo.Architectures) > 0 && !slices.Contains(repo.Architectures, opts.Image.Arch) {
			continue
		}
		errs := o.add(ctx, repo)
		wrong = append(wrong, errs...)
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("looking at the repositories: %w", err)
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return o.set, nil
}

// opener makes a set.
type opener struct {
	Options
	set     *Set
	aliases map[string]bool
	keys    map[string][]byte // by address: many repositories share one
}

// add puts one repository into the set.
func (o *opener) add(ctx context.Context, d description.Repository) description.Errors {
	r := Repository{Description: d, source: source{o.Cache, o.Offline}}
	a, err := parseAddress(d.Source, o.OpenBuildService)
	if err != nil {
		return description.Errors{r.Errorf(err.hint, "%s", err.text)}
	}
	if err := o.credentials(&r, a); err != nil {
		return description.Errors{err}
	}
	o.hide(r)
	if err := cmp.Or(o.checkKind(r), o.checkList(r)); err != nil {
		return description.Errors{err}
	}
	if err := o.locate(ctx, &r, a); err != nil {
		return description.Errors{err}
	}
	r.Alias = o.alias(r)
	var wrong description.Errors
	if o.Image.PackageManager == "apk" {
		r.NamedKeys, wrong = o.readNamedKeys(ctx, r)
	} else {
		r.Keys, wrong = o.readKeys(ctx, r)
	}
	if wrong != nil {
		return wrong
	}
	o.place(&r)
	if !d.ImageOnly {
		o.set.List = append(o.set.List, r)
	}
	if d.ImageInclude || d.ImageOnly {
		o.set.Image = append(o.set.Image, r)
	}
	return nil
}

// checkKind refuses a kind of repository that the package manager can't read. pacman and apk have kinds of their own, which have no name in a description.
func (o *opener) checkKind(r Repository) *description.Error {
	d := r.Description
	known, hint := []string{"rpm-md", "rpm-dir"}, `use type="rpm-md", or rpm-dir for a plain directory of packages`
	switch o.Image.PackageManager {
	case "apt":
		known, hint = []string{"apt-deb", "deb-dir"}, `use type="apt-deb", or deb-dir for a plain directory of packages`
	case "pacman", "apk":
		known, hint = []string{"rpm-md"}, "leave out the type"
	}
	if d.Type == "" || slices.Contains(known, d.Type) {
		return nil
	}
	return d.Errorf("type", hint, "%s can't read a repository of type %s", o.Image.PackageManager, d.Type)
}

// place makes a repository's directory and keys visible in the sandbox.
func (o *opener) place(r *Repository) {
	if r.Local != "" {
		target := Dir + "/" + r.Alias
		r.URI = "file://" + target
		o.set.Binds = append(o.set.Binds, sandbox.Bind{Source: r.Local, Target: target, ReadOnly: true})
	}
	if r.Keys != nil {
		r.KeyFile = Dir + "/keys/" + r.Alias + ".asc"
		o.set.Files = append(o.set.Files, sandbox.File{Path: r.KeyFile, Data: armor(r.Keys), Perm: 0o644})
	}
}

// locate finds where the repository lies.
func (o *opener) locate(ctx context.Context, r *Repository, a address) *description.Error {
	switch a.kind {
	case network:
		r.URI = a.uri
		return nil
	case image:
		return o.unpackISO(ctx, r, a.path)
	}
	if r.Description.ImageOnly && filepath.IsAbs(a.path) {
		r.URI = (&url.URL{Scheme: "file", Path: a.path}).String() // the image's directory, not this machine's
		return nil
	}
	switch r.Description.SourceType {
	case "metalink", "mirrorlist":
		return r.Errorf("give the http or https address of the list", "the %s %s is no address in the network", r.Description.SourceType, r.shown())
	}
	path, fail := o.localPath(r, a.path)
	if fail != nil {
		return fail
	}
	info, err := os.Stat(path)
	if err != nil {
		return r.Errorf("", "the repository %s can't be read: %v", r.shown(), err)
	}
	if !info.IsDir() {
		return r.Errorf("give the directory that holds the repository", "the repository %s can't be read: %s is no directory", r.shown(), path)
	}
	r.Local = path
	return nil
}

// localPath returns the absolute path of a file or directory, where a relative one lies beside the description. What lies in a description that is no directory
// of this machine is copied to one.
func (o *opener) localPath(r *Repository, path string) (string, *description.Error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	if o.Files.Dir != "" {
		abs, err := filepath.Abs(filepath.Join(o.Files.Dir, path))
		if err != nil {
			return "", r.Errorf("", "the repository %s can't be read: %v", r.shown(), err)
		}
		return abs, nil
	}
	to, err := o.copyOut(path)
	if err != nil {
		return "", r.Errorf("", "the repository %s can't be read: %v", r.shown(), err)
	}
	return to, nil
}

// hide notes the secrets of a repository in all forms that a program may print them in.
func (o *opener) hide(r Repository) {
	if r.Password == "" {
		return
	}
	_, standard, _ := strings.Cut(url.UserPassword("", r.Password).String(), ":")
	for _, form := range []string{r.Password, url.QueryEscape(r.Password), url.PathEscape(r.Password), escape(r.Password), standard} {
		if !slices.Contains(o.set.Secrets, form) {
			o.set.Secrets = append(o.set.Secrets, form)
		}
	}
}

// escape writes a user name or a password for an address, with nothing in it that a package manager takes for a variable or a format.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// alias makes a name that is fit for files and sections and that no other repository has.
func (o *opener) alias(r Repository) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c) {
			return c
		}
		return '_' // apt reads no file with another character in its name (sources.list(5))
	}, r.Description.Alias)
	name = strings.TrimLeft(name, ".-")
	if name == "" {
		// Of the address without secrets, which a short hash would give away.
		sum := sha256.Sum256([]byte(r.shown() + " " + r.Description.Distribution))
		name = "repository-" + hex.EncodeToString(sum[:6])
	}
	unique := name
	for i := 2; o.aliases[unique]; i++ {
		unique = name + "-" + strconv.Itoa(i)
	}
	o.aliases[unique] = true
	return unique
}

// shown is the address as the user knows it, without secrets.
func (r Repository) shown() string { return withoutSecrets(r.Description.Source) }

// String is the address as the user knows it, without secrets, and the distribution.
func (r Repository) String() string {
	if r.Description.Distribution != "" {
		return r.shown() + " " + r.Description.Distribution
	}
	return r.shown()
}

// Errorf makes an error at the repository's address in the description. Addresses that only a sandbox knows become those that the user wrote.
func (r Repository) Errorf(hint, format string, args ...any) *description.Error {
	text := fmt.Sprintf(format, args...)
	if r.Local != "" && r.URI != "" {
		text = strings.ReplaceAll(text, r.URI, r.shown())
		text = strings.ReplaceAll(text, strings.TrimPrefix(r.URI, "file://"), r.Local)
	}
	e := r.Description.Errorf("", hint, "%s", text)
	if !r.Description.SourcePos.IsZero() {
		e.Pos = r.Description.SourcePos
	}
	return e
}

// WithCredentials is an address of the repository with its user name and password in it, for programs that take them nowhere else. An address of another server,
// which is none of the mirrors of a list, stays as it is.
func (r Repository) WithCredentials(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	switch {
	case !ok || r.Local != "" || r.User == "" && r.Password == "" || !r.IsList() && !sameServer(address, r.URI):
		return address
	case r.Password == "":
		return scheme + "://" + escape(r.User) + "@" + rest
	}
	return scheme + "://" + escape(r.User) + ":" + escape(r.Password) + "@" + rest
}

// Hide replaces the secrets of the set in a text.
func (s *Set) Hide(text string) string {
	for _, secret := range s.Secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// Concerned finds the repository that a text of a package manager is about: by its address, its alias as a word, or its host. The first text that tells decides.
func (s *Set) Concerned(texts ...string) (Repository, bool) {
	for _, text := range texts {
		for _, r := range s.List {
			if strings.Contains(text, strings.TrimRight(r.URI, "/.")) || r.Local != "" && strings.Contains(text, r.Local) {
				return r, true
			}
		}
		for _, r := range s.List {
			if containsWord(text, r.Alias) {
				return r, true
			}
		}
		for _, r := range s.List {
			if u, err := url.Parse(r.URI); err == nil && u.Hostname() != "" && strings.Contains(text, u.Hostname()) {
				return r, true
			}
		}
	}
	if len(s.List) == 1 {
		return s.List[0], true
	}
	return Repository{}, false
}

// containsWord reports whether a word stands in a text with no letter or digit beside it.
func containsWord(text, word string) bool {
	part := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(word)
		if (i == 0 || !part(text[i-1])) && (end == len(text) || !part(text[end])) {
			return true
		}
		from = i + 1
	}
}

// Names are the addresses that packages are looked for at, for messages.
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.List))
	for _, r := range s.List {
		names = append(names, r.String())
	}
	return names
}
