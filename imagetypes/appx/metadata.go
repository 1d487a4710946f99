package appx

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
)

// maxMetadata bounds a file of the package's metadata, in bytes.
const maxMetadata = 1 << 30

// metadata is what comes into the package beside the root tree.
type metadata struct {
	manifest  []byte            // as the description changes it
	publisher string            // that it names
	files     map[string]string // the names of the others, by themselves in lower case: Windows tells names by nothing else
	from      fs.FS
}

// readMetadata reads the directory with the manifest, and refuses what Windows would not take.
func readMetadata(d *description.Image) (*metadata, error) {
	t := &d.Type
	m := &metadata{files: map[string]string{}}
	fail := func(hint, format string, args ...any) error { return t.Errorf("metadata_path", hint, format, args...) }
	name := t.MetadataPath
	switch {
	case name == "":
		return nil, t.Errorf("", "name a directory with an "+manifestName, "a package for Windows needs the attribute metadata_path")
	case filepath.IsAbs(name):
		m.from = os.DirFS(name)
	default:
		sub, err := fs.Sub(d.FS, filepath.Clean(name))
		if err != nil {
			return nil, fail("give a directory beside the description, or an absolute path", "%q is no directory of the description", name)
		}
		m.from = sub
	}
	err := fs.WalkDir(m.from, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return m.take(file)
	})
	var unfit *unfitError
	if errors.As(err, &unfit) {
		return nil, fail(unfit.hint, "in the directory %s, %s %s", name, unfit.file, unfit.reason)
	}
	if err != nil {
		return nil, fail("", "the directory %s can't be read: %v", name, err)
	}
	manifest, err := fs.ReadFile(m.from, manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail("put the manifest of the package there", "the directory %s has no %s", name, manifestName)
	}
	if err != nil {
		return nil, fail("", "the manifest can't be read: %v", err)
	}
	if m.manifest, err = rewrite(manifest, changes(d)); err != nil {
		return nil, fail("", "%v", err)
	}
	if m.publisher, err = checkManifest(d, m.manifest); err != nil {
		return nil, err
	}
	if c := t.Container; c != nil && c.History.Launcher != "" {
		if _, ok := m.files[strings.ToLower(strings.ReplaceAll(c.History.Launcher, `\`, "/"))]; !ok {
			return nil, c.History.Errorf("launcher", "put the program into "+name, "the launcher %s is not in the directory %s", c.History.Launcher, name)
		}
	}
	return m, nil
}

// unfitError says why a file can't be in a package.
type unfitError struct{ file, reason, hint string }

// Error implements error.
func (e *unfitError) Error() string { return e.file + " " + e.reason }

// unfit matches what Windows has in no name of a file (Microsoft's documentation, "Naming Files, Paths, and Namespaces").
var unfit = regexp.MustCompile(`[<>:"\\|?*\x00-\x1f]|[. ](/|$)`)

// take takes a file of the directory into the package, but for those that are made for it.
func (m *metadata) take(file string) error {
	if slices.Contains([]string{manifestName, blockMapName, contentTypesName, signatureName, rootArchive}, file) {
		return nil
	}
	if part := unfit.FindString(file); part != "" {
		return &unfitError{fmt.Sprintf("%q", file), fmt.Sprintf("has a %q in its name, which Windows does not allow", strings.TrimSuffix(part, "/")), "rename it"}
	}
	info, err := fs.Stat(m.from, file)
	switch {
	case err != nil:
		return &unfitError{file, fmt.Sprintf("can't be read: %v", err), "put the file itself there"}
	case !info.Mode().IsRegular():
		return &unfitError{file, "is no file and no directory", "put the files themselves there"}
	case info.Size() > maxMetadata:
		return &unfitError{file, fmt.Sprintf("has more than %d bytes", int64(maxMetadata)), "take it out"}
	}
	lower := strings.ToLower(file)
	if other, ok := m.files[lower]; ok {
		return &unfitError{file, "and " + other + " have the same name for Windows", "rename one of them"}
	}
	m.files[lower] = file
	return nil
}

// identity is what Windows wants of each manifest (Microsoft's documentation, "App package manifest": Identity, Application).
type identity struct {
	Identity *struct {
		Name      string `xml:"Name,attr"`
		Publisher string `xml:"Publisher,attr"`
		Version   string `xml:"Version,attr"`
	} `xml:"Identity"`
	Applications []struct{} `xml:"Applications>Application"`
}

// checkManifest refuses a manifest without an identity or an application, as it is after the description's changes, and returns its publisher.
func checkManifest(d *description.Image, manifest []byte) (string, error) {
	fail := func(hint, format string, args ...any) (string, error) {
		return "", d.Type.Errorf("metadata_path", hint, "%s: %s", manifestName, fmt.Sprintf(format, args...))
	}
	var p identity
	if err := xml.Unmarshal(manifest, &p); err != nil {
		return fail("", "%v", err)
	}
	switch {
	case p.Identity == nil:
		return fail(`add <Identity Name="..." Publisher="CN=..." Version="1.0.0.0"/>`, "it has no element Identity")
	case p.Identity.Name == "":
		return fail("add it", "its element Identity has no attribute Name")
	case p.Identity.Version == "":
		return fail("add it, or package_version to <history>", "its element Identity has no attribute Version")
	case len(p.Applications) == 0:
		return fail("add <Applications> with one for the launcher", "it has no element Application")
	}
	publisher := p.Identity.Publisher
	if name, err := parseName(publisher); err != nil || len(name) == 0 {
		const hint = "write it as CN=Example, O=Organization"
		if c := d.Type.Container; c != nil && c.History.CreatedBy != "" {
			return "", c.History.Errorf("created_by", hint, "the package's publisher %q is no distinguished name", publisher)
		}
		return fail(hint, "its publisher %q is no distinguished name", publisher)
	}
	return publisher, nil
}

// pack writes the package.
func (m *metadata) pack(ctx context.Context, r *image.Request, root, to, scratch string) (err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p := newPackager(out, r.Repro.Epoch, scratch)
	for _, key := range slices.Sorted(maps.Keys(m.files)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.add(p, m.files[key]); err != nil {
			return err
		}
	}
	f, err := os.Open(root)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.add(rootArchive, f); err != nil {
		return err
	}
	if err := p.add(manifestName, bytes.NewReader(m.manifest)); err != nil {
		return err
	}
	return p.close()
}

// add puts a file of the metadata into the package.
func (m *metadata) add(p *packager, name string) error {
	f, err := m.from.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err != nil {
		return err
	}
	if len(data) > maxMetadata {
		return fmt.Errorf("%s has more than %d bytes", name, maxMetadata)
	}
	return p.add(name, bytes.NewReader(data))
}
