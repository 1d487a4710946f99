// Package stash keeps root trees as containers: the first stash of a name makes a container of one layer, each later one adds a layer with
// exactly what changed.
package stash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// DefaultTag is the tag of a stash whose user gives none.
const DefaultTag = "latest"

// Options says what to stash.
type Options struct {
	// Root is the directory of the root tree, or a tar archive of it. It is only read.
	Root string
	// Name is the container's name. Empty means the image name of the description in Root/image, made a valid name.
	Name string
	// Tag is the container's tag; empty means [DefaultTag].
	Tag string
	// Compression is how the new layer is compressed.
	Compression layers.Compression
	// Exclude are patterns of what to leave out, as [layers.ScanOptions] has them.
	Exclude []string
	// Repro gives the time of the stash. If it is fixed, no file's time is later.
	Repro repro.Source
	// Progress shows the work; nil shows nothing.
	Progress progress.Reporter
	// Log gets what could not be kept; nil drops it.
	Log *slog.Logger
}

// Result is what a stash made.
type Result struct {
	Name   string `json:"name"` // with tag
	Digest string `json:"digest"`
	Layers int    `json:"layers"` // of the whole container
	// Changed is false if the root tree is what the container holds already; then nothing was written.
	Changed bool `json:"changed"`
	// Put and Removed count the new layer's entries: those it brings and those it takes away.
	Put     int   `json:"put"`
	Removed int   `json:"removed"`
	Size    int64 `json:"size"` // of the new layer's blob in bytes
	// Notes say what of the root tree could not be kept.
	Notes []layers.Note `json:"notes,omitempty"`
}

// maker is one stash on its way.
type maker struct {
	Options
	store registry.Store
	name  string
	about about
	tree  *layers.Tree
	// archive is what the tree's contents lie in, if Root is one.
	archive *archive
}

// Make stashes a root tree in the store.
func Make(ctx context.Context, store registry.Store, opts Options) (*Result, error) {
	if opts.Progress == nil {
		opts.Progress = progress.Discard
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Name != "" { // before the long walk
		if err := checkName(opts.Name, opts.Tag); err != nil {
			return nil, err
		}
	}
	m := &maker{Options: opts, store: store}
	defer func() {
		if m.archive != nil {
			m.archive.Close()
		}
	}()
	result := &Result{}
	if err := m.scan(ctx, result); err != nil {
		return nil, err
	}
	if err := m.identify(); err != nil {
		return nil, err
	}
	result.Name = m.name
	err := store.Update(ctx, m.name, func(ctx context.Context, old v1.Image) (v1.Image, error) {
		return m.update(ctx, old, result)
	})
	if err != nil {
		return nil, fmt.Errorf("stashing %s as %s: %w", opts.Root, m.name, err)
	}
	return result, nil
}

func (m *maker) scan(ctx context.Context, result *Result) error {
	task := m.Progress.Start("scanning "+m.Root, 0, progress.Items)
	tree, notes, err := m.read(ctx)
	if err == nil {
		task.Add(int64(tree.Stats().Entries))
	}
	task.Done(err)
	if err != nil {
		return fmt.Errorf("scanning the root tree: %w", err)
	}
	if len(tree.Root().Names()) == 0 {
		return fmt.Errorf("scanning the root tree: %s is empty; give the directory that holds the system's /etc, /usr and so on", m.Root)
	}
	for _, note := range notes {
		m.Log.Warn(note.Text, "path", note.Path)
	}
	if m.Repro.Fixed {
		tree = layers.Clamp(tree, layers.TimespecOf(m.Repro.Epoch))
	}
	m.tree, result.Notes = tree, notes
	return nil
}

// read returns the tree of a directory or of an archive.
func (m *maker) read(ctx context.Context) (*layers.Tree, []layers.Note, error) {
	info, err := os.Stat(m.Root)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		if err := userns.WarnForeign(m.Log, m.Root, "give a tar archive of it"); err != nil {
			return nil, nil, err
		}
		return layers.ScanDir(ctx, m.Root, layers.ScanOptions{Exclude: m.Exclude, OneFileSystem: true})
	}
	tree, file, err := openArchive(ctx, m.Root, m.Exclude)
	m.archive = file
	return tree, nil, err
}

// identify finds the container's name and what its config says of the tree.
func (m *maker) identify() error {
	image, err := describe(m.tree)
	switch {
	case err == nil:
	case m.Name != "" && errors.Is(err, fs.ErrNotExist):
	case m.Name != "":
		m.Log.Warn("the description in the root tree can't be read; stashing without its author and version", "error", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("naming the container: %s has no description in /image that names it; give a name with --container-name", m.Root)
	default:
		return fmt.Errorf("naming the container after the description in %s/image: %w", m.Root, err)
	}
	name := m.Name
	if name == "" {
		name = reference.Suggest(image.Name)
		if name != image.Name {
			m.Log.Warn("the image's name is not a valid name of a container", "image", image.Name, "container", name)
		}
		if err := checkName(name, m.Tag); err != nil {
			return err
		}
	}
	tag := m.Tag
	if tag == "" {
		tag = DefaultTag
	}
	m.name = name + ":" + tag
	m.about, err = aboutTree(m.tree, image)
	return err
}

// describe loads the description that lies in the tree's /image.
func describe(tree *layers.Tree) (*description.Image, error) {
	if _, _, err := tree.Resolve("image"); err != nil {
		return nil, err
	}
	doc, err := description.LoadFS(tree.FS("image"), "/image", description.LoadOptions{})
	if err != nil {
		return nil, err
	}
	return doc.Resolve(description.Selection{})
}

// checkName checks what the user gave, so that an error is about that.
func checkName(name, tag string) error {
	if strings.ContainsAny(name, ":@") {
		return &reference.Error{Input: name, Part: "name", Offset: strings.IndexAny(name, ":@"),
			Reason: "a tag is given with --tag", Suggestion: strings.FieldsFunc(name, func(r rune) bool { return r == ':' || r == '@' })[0]}
	}
	if err := reference.CheckName(name); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	return reference.CheckTag(tag)
}

// update makes the new image of the container from the old one, or no image if nothing changed.
func (m *maker) update(ctx context.Context, old v1.Image, result *Result) (v1.Image, error) {
	if old == nil {
		layer, err := layers.WholeTree(m.tree)
		if err != nil {
			return nil, err
		}
		return m.add(ctx, nil, layer, result)
	}
	layer, err := m.compare(ctx, old)
	if err != nil {
		return nil, err
	}
	if err := describeImage(old, result); err != nil {
		return nil, err
	}
	if len(layer.Entries) == 0 {
		return nil, nil
	}
	return m.add(ctx, old, layer, result)
}

// compare returns the layer that turns the old image's tree into the new tree.
func (m *maker) compare(ctx context.Context, old v1.Image) (layer *layers.Layer, err error) {
	task := m.Progress.Start("comparing with "+m.name, 0, progress.Items)
	defer func() { task.Done(err) }()
	tree, err := container.Open(ctx, old, m.store, container.Options{Log: m.Log})
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	return layers.Changes(ctx, tree.Tree, m.tree)
}

// add returns old, or an empty image if it is nil, with the layer on top.
func (m *maker) add(ctx context.Context, old v1.Image, layer *layers.Layer, result *Result) (v1.Image, error) {
	blob, packed, err := m.pack(ctx, layer)
	if err != nil {
		return nil, err
	}
	image, err := appendLayer(old, blob, packed.MediaType, m.about, m.Repro.Epoch)
	if err != nil {
		return nil, err
	}
	puts, whiteouts, opaques, links := layer.Counts()
	result.Changed, result.Put, result.Removed, result.Size = true, puts+links, whiteouts+opaques, packed.Size
	return image, describeImage(image, result)
}

// pack writes the layer into the store as a blob.
func (m *maker) pack(ctx context.Context, layer *layers.Layer) (v1.Layer, *layers.Packed, error) {
	blob, err := m.store.NewBlob(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer blob.Abort()
	compression := m.Compression
	if !m.store.KeepsBlobs() { // it keeps what is in them
		compression = layers.Compression{Algorithm: layers.None}
	}
	task := m.Progress.Start("packing "+m.name, layer.DataSize(), progress.Bytes)
	packed, err := layers.Pack(ctx, blob, layer, layers.PackOptions{Compression: compression, Progress: task.Add})
	task.Done(err)
	if err != nil {
		return nil, nil, err
	}
	committed, err := blob.Commit(ctx, registry.Packed{Digest: packed.Digest, DiffID: packed.DiffID, Size: packed.Size, TarSize: packed.TarSize, MediaType: packed.MediaType})
	if err != nil {
		return nil, nil, err
	}
	err = m.store.PutIndex(ctx, packed.Digest, func(w io.Writer) error { return layers.EncodeIndex(w, packed.Layer) })
	if err != nil { // it can be made again from the blob
		m.Log.Warn("the index of the new layer could not be kept; the next stash will take longer", "error", err)
	}
	return committed, packed, nil
}

// describeImage fills in what a result says of the whole container.
func describeImage(image v1.Image, result *Result) error {
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	result.Digest, result.Layers = digest.String(), len(manifest.Layers)
	return nil
}

// Entry is one stash as a list shows it.
type Entry struct {
	Name    string    `json:"name"`
	Tag     string    `json:"tag"`
	Layers  int       `json:"layers"`
	Size    int64     `json:"size"` // of all layers' blobs in bytes
	Created time.Time `json:"created"`
	Digest  string    `json:"digest"`
}

// List returns the stashes of a store by name and tag. Containers that were pulled and not stashed are not among them.
func List(ctx context.Context, store registry.Store) ([]Entry, error) {
	all, err := store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the stashes: %w", err)
	}
	stashes := []Entry{}
	for _, e := range all {
		if e.Labels[labelMeta] == "" {
			continue
		}
		stashes = append(stashes, Entry{Name: e.Name, Tag: e.Tag, Layers: e.Layers, Size: e.Size, Created: e.Created, Digest: e.Digest.String()})
	}
	return stashes, nil
}
