package system

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// LockFile is the name of the lock file beside the results, and in /image of a prepared root tree.
const LockFile = "imgbuild.lock"

// lockFormat is the version of the lock file's form.
const lockFormat = 1

// maxLock bounds a lock file, in bytes.
const maxLock = 64 << 20

// What a container was used for.
const (
	useStack   = "stack"        // it is one of the stack
	useBase    = "derived_from" // the image is derived from it
	useBuilder = "builder"      // its package manager worked on the root tree
)

// Lock says what an image was made of, so exactly that the same can be made again.
type Lock struct {
	Format int         `json:"format"`
	Image  LockedImage `json:"image"`
	// Containers are in the order of their use.
	Containers []LockedContainer `json:"containers,omitempty"`
	// Packages are sorted by name.
	Packages []LockedPackage `json:"packages,omitempty"`
}

// LockedImage is what was made.
type LockedImage struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Arch     string   `json:"architecture"`
	Type     string   `json:"type"`            // of several types the first
	Types    []string `json:"types,omitempty"` // where there are several
	Profiles []string `json:"profiles,omitempty"`
	// Description is the digest of the description as it is kept in the root tree's /image/config.xml.
	Description string `json:"description"`
}

// LockedContainer is a container that was used.
type LockedContainer struct {
	Use    string `json:"use"`
	Name   string `json:"name"` // as the user or the description has it
	Digest string `json:"digest"`
}

// LockedPackage is a package that was installed.
type LockedPackage struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	Arch       string `json:"architecture"`
	Checksum   string `json:"checksum,omitempty"` // ALGORITHM:HEX of the package's file
	Repository string `json:"repository,omitempty"`
	// Types are the image types that have it, where others of the same build have it not.
	Types []string `json:"types,omitempty"`
}

// LockError says how a build differs from the lock file that it was to obey.
type LockError struct {
	// Differences name what differs, each as one clause.
	Differences []string
}

// Error implements error.
func (e *LockError) Error() string {
	const most = 10
	shown := e.Differences
	more := ""
	if len(shown) > most {
		more = fmt.Sprintf("; and %d more", len(shown)-most)
		shown = shown[:most]
	}
	return fmt.Sprintf("obeying the lock: %s%s; build without --locked to write a new one", strings.Join(shown, "; "), more)
}

// ReadLock reads a lock file.
func ReadLock(name string) (*Lock, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the lock file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxLock {
		return nil, errors.Join(err, fmt.Errorf("reading the lock file %s: it is larger than %d bytes", name, maxLock))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the lock file: %w", err)
	}
	return decodeLock(name, data)
}

func decodeLock(name string, data []byte) (*Lock, error) {
	var l Lock
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return nil, fmt.Errorf("reading the lock file %s: %w; build without --locked to write a new one", name, err)
	}
	if l.Format != lockFormat {
		return nil, fmt.Errorf("reading the lock file %s: its format is %d and only %d is known here; build without --locked to write a new one", name, l.Format, lockFormat)
	}
	for _, c := range l.Containers {
		if err := digest.Digest(c.Digest).Validate(); err != nil {
			return nil, fmt.Errorf("reading the lock file %s: container %s: %w", name, c.Name, err)
		}
	}
	return &l, nil
}

// lockOf returns the lock that is kept in a tree, an empty one if there is none.
func lockOf(tree *layers.Tree) (Lock, error) {
	data, err := tree.ReadFile("image/"+LockFile, maxLock)
	if errors.Is(err, fs.ErrNotExist) {
		return Lock{}, nil
	}
	if err != nil {
		return Lock{}, err
	}
	l, err := decodeLock("/image/"+LockFile, data)
	if err != nil {
		return Lock{}, err
	}
	return *l, nil
}

// Encode returns the lock file: the same for the same lock.
func (l *Lock) Encode() ([]byte, error) {
	sorted := *l
	sorted.Format = lockFormat
	sorted.Packages = slices.Clone(l.Packages)
	slices.SortFunc(sorted.Packages, func(a, b LockedPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Version, b.Version))
	})
	sorted.Packages = slices.CompactFunc(sorted.Packages, func(p, q LockedPackage) bool { return reflect.DeepEqual(p, q) })
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(sorted); err != nil {
		return nil, fmt.Errorf("writing the lock: %w", err)
	}
	return b.Bytes(), nil
}

// add adds packages that were installed.
func (l *Lock) add(list []packages.Package) {
	for _, p := range list {
		l.Packages = append(l.Packages, LockedPackage{Name: p.Name, Version: p.Version, Arch: p.Arch, Checksum: p.Checksum, Repository: p.Repository})
	}
}

// with returns the lock of a tree in which more was used afterwards.
func (l *Lock) with(used Lock) Lock {
	both := Lock{Containers: slices.Concat(l.Containers, used.Containers)}
	newer := map[[2]string]bool{}
	for _, p := range used.Packages {
		newer[[2]string{p.Name, p.Arch}] = true
	}
	for _, p := range l.Packages {
		if !newer[[2]string{p.Name, p.Arch}] {
			both.Packages = append(both.Packages, p)
		}
	}
	both.Packages = append(both.Packages, used.Packages...)
	return both
}

// of returns the packages that are locked for an image type.
func (l *Lock) of(imageType string) []LockedPackage {
	return slices.DeleteFunc(slices.Clone(l.Packages), func(p LockedPackage) bool { return len(p.Types) > 0 && !slices.Contains(p.Types, imageType) })
}

// together is the lock of one build for several image types, of the locks of each.
func together(locks []Lock) Lock {
	all := locks[0]
	if len(locks) == 1 {
		return all
	}
	all.Packages, all.Containers = nil, nil
	for _, l := range locks {
		all.Image.Types = append(all.Image.Types, l.Image.Type)
		for _, c := range l.Containers {
			if !slices.Contains(all.Containers, c) {
				all.Containers = append(all.Containers, c)
			}
		}
		for _, p := range l.Packages {
			at := slices.IndexFunc(all.Packages, p.same)
			if at < 0 {
				at, all.Packages = len(all.Packages), append(all.Packages, p)
			}
			all.Packages[at].Types = append(all.Packages[at].Types, l.Image.Type)
		}
	}
	for i := range all.Packages {
		if len(all.Packages[i].Types) == len(locks) {
			all.Packages[i].Types = nil
		}
	}
	return all
}

// packages returns what may be installed for an image type; nil, which forbids nothing, if there is no lock.
func (l *Lock) packages(imageType string) []packages.Package {
	if l == nil {
		return nil
	}
	list := make([]packages.Package, 0, len(l.Packages))
	for _, p := range l.of(imageType) {
		list = append(list, packages.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, Checksum: p.Checksum, Repository: p.Repository, Download: -1, Installed: -1})
	}
	return list
}

// find returns the digest of a container that is locked.
func (l *Lock) find(use, name string) (string, bool) {
	for _, c := range l.Containers {
		if c.Use == use && c.Name == name {
			return c.Digest, true
		}
	}
	return "", false
}

// pin returns the name by which a container is fetched as it is locked. Without a lock it is the name itself.
func (l *Lock) pin(use, name string) (string, error) {
	if l == nil {
		return name, nil
	}
	sum, ok := l.find(use, name)
	if !ok {
		return "", &LockError{Differences: []string{fmt.Sprintf("container %s (%s) is not in it", name, use)}}
	}
	return pinned(name, sum)
}

// isFor refuses an architecture that the lock does not lock.
func (l *Lock) isFor(arch string) error {
	if l == nil || l.Image.Arch == "" || l.Image.Arch == arch {
		return nil
	}
	return &LockError{Differences: []string{fmt.Sprintf("it is for %s and not for %s", l.Image.Arch, arch)}}
}

// matches refuses a container that is another than the locked one.
func (l *Lock) matches(used LockedContainer) error {
	if l == nil {
		return nil
	}
	if sum, _ := l.find(used.Use, used.Name); sum != used.Digest {
		return &LockError{Differences: []string{fmt.Sprintf("container %s is %s and %s is locked", used.Name, used.Digest, sum)}}
	}
	return nil
}

// complete refuses what was installed if it is not exactly what is locked for the image type. Known is what the tree was made of before.
func (l *Lock) complete(imageType string, known, used Lock) error {
	if l == nil {
		return nil
	}
	locked, installed := byName(l.of(imageType)), byName(used.Packages)
	var differences []string
	for name, now := range installed {
		if want := locked[name]; !slices.EqualFunc(now, want, LockedPackage.same) {
			differences = append(differences, fmt.Sprintf("package %s is %s, locked is %s", name, versions(now), versions(want)))
		}
	}
	there := byName(known.Packages)
	for name, want := range locked {
		if installed[name] == nil && there[name] == nil {
			differences = append(differences, fmt.Sprintf("package %s is not installed, locked is %s", name, versions(want)))
		}
	}
	if differences == nil {
		return nil
	}
	slices.Sort(differences)
	return &LockError{Differences: differences}
}

// byName sorts packages into one list for each name.
func byName(list []LockedPackage) map[string][]LockedPackage {
	names := map[string][]LockedPackage{}
	for _, p := range list {
		names[p.Name] = append(names[p.Name], p)
	}
	for _, same := range names {
		slices.SortFunc(same, func(a, b LockedPackage) int {
			return cmp.Or(strings.Compare(a.Arch, b.Arch), strings.Compare(a.Version, b.Version))
		})
	}
	return names
}

// same reports whether two packages are one and the same, as far as both are known.
func (p LockedPackage) same(q LockedPackage) bool {
	return p.Name == q.Name && p.Arch == q.Arch && p.Version == q.Version && (p.Checksum == q.Checksum || p.Checksum == "" || q.Checksum == "")
}

// versions lists the versions of packages of one name.
func versions(list []LockedPackage) string {
	if len(list) == 0 {
		return "none"
	}
	var texts []string
	for _, p := range list {
		text := p.Version + " for " + p.Arch
		if p.Checksum != "" {
			text += " (" + p.Checksum + ")"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " and ")
}

func digestOf(data []byte) string { return digest.FromBytes(data).String() }
