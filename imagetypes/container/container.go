// Package container builds the image types docker and oci: the root tree as one layer, or what it differs in from a base as a layer on top of that one's, with a
// config from the description.
package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/description"
	rootarchive "github.com/imgbuild/imgbuild/imagetypes/archive"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// Builder builds containers. It implements [image.Builder].
type Builder struct{}

// transport returns the form of the archive and its extension.
func transport(t *description.Type) (reference.Transport, string) {
	if t.Image == "docker" {
		return reference.DockerArchive, ".docker.tar"
	}
	return reference.OCIArchive, ".oci.tar"
}

// Check refuses what can't be built.
func (Builder) Check(_ context.Context, r *image.Request) error {
	if r.Description == nil {
		return fmt.Errorf("building a container: no description given")
	}
	t := &r.Description.Type
	if t.DeltaRoot && len(t.DerivedFrom) == 0 {
		return t.Errorf("delta_root", "say with derived_from what it is the difference to", "a delta container needs a base")
	}
	if len(t.DerivedFrom) > 1 {
		return t.Errorf("derived_from", "name one, or stack them with imgbuild stackbuild", "a container can be derived from one other, not from %d", len(t.DerivedFrom))
	}
	if r.Tree != nil && len(t.DerivedFrom) > 0 && r.Base == nil {
		return t.Errorf("derived_from", "build it from its description with imgbuild build", "the container %s, which this one is derived from, is not at hand", t.DerivedFrom[0])
	}
	if c := r.Container; c.Compression != nil && c.Compression.Algorithm == layers.Zstd && t.Image == "docker" && !c.NoArchive {
		return t.Errorf("image", "use --container-compression gzip or none, or the image type oci", "docker load reads no layers that are compressed by zstd")
	}
	for _, name := range names(t) {
		if _, err := reference.Parse(name); err != nil {
			return configOrigin(t).Errorf("name", "", "the container's name %q is not valid: %v", name, err)
		}
	}
	return nil
}

// configOrigin is the element that errors of the container's config point to.
func configOrigin(t *description.Type) description.Origin {
	if t.Container != nil {
		return t.Container.Origin
	}
	return t.Origin
}

// Plan names the container and says how large its layer is.
func (Builder) Plan(ctx context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	_, extension := transport(&r.Description.Type)
	content, err := content(ctx, r)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("container: %s%s, named %s, one layer of %d entries, %s", r.BaseName, extension,
		strings.Join(names(&r.Description.Type), ", "), len(content.Entries), progress.FormatBytes(content.DataSize()))
	switch {
	case r.Base != nil && r.Description.Type.DeltaRoot:
		text += ", the difference to " + r.Base.Name
	case r.Base != nil:
		text += ", on top of " + r.Base.Name
	}
	return text + "\n", nil
}

// Build writes BaseName.docker.tar, as 'docker load' and 'podman load' take it, or BaseName.oci.tar, an OCI image layout.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	scratch, remove, err := r.Scratch("container")
	if err != nil {
		return nil, err
	}
	if !r.Container.Keep { // else the layer lies there
		defer remove()
	}
	artifact, err := write(ctx, r, scratch)
	if err != nil {
		return nil, fmt.Errorf("building a container: %w", err)
	}
	return []image.Artifact{*artifact}, nil
}

// write makes the container, and the archive that holds it.
func write(ctx context.Context, r *image.Request, scratch string) (*image.Artifact, error) {
	t := &r.Description.Type
	form, extension := transport(t)
	img, err := makeImage(ctx, r, filepath.Join(scratch, "layer"), form)
	if err != nil {
		return nil, err
	}
	all := names(t)
	made := &image.Artifact{Key: image.KeyContainer, Compress: form == reference.DockerArchive && r.Container.Compression == nil && r.Compress(true), UseForBundle: true}
	if r.Container.Keep {
		made.Container = &image.Container{Image: img, Names: all}
	}
	if r.Container.NoArchive {
		return made, nil
	}
	made.File = r.BaseName + extension
	file := filepath.Join(r.Dir, made.File)
	opts := archive.WriteOptions{Name: all[0], Tags: all[1:], Packed: r.Container.Compression != nil}
	if err := archive.Write(ctx, reference.Reference{Transport: form, Path: file}, img, opts); err != nil || !r.Container.XZ {
		return made, err
	}
	made.File, made.Compress = made.File+".xz", false
	return made, pack(ctx, r, file, file+".xz")
}

// pack replaces a file by one that is compressed by xz.
func pack(ctx context.Context, r *image.Request, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	task := r.Progress.Start("compressing "+filepath.Base(from), info.Size(), progress.Bytes)
	err = rootarchive.XZ(ctx, out, r.XZ, func(w io.Writer) error {
		_, err := io.Copy(w, ctxio.Reader(ctx, progress.Reader(in, task)))
		return err
	})
	task.Done(err)
	return errors.Join(err, os.Remove(from))
}

// content is the layer: the root tree, or what it differs in from that of the base.
func content(ctx context.Context, r *image.Request) (*layers.Layer, error) {
	whole, err := tree(r, r.Tree)
	if err != nil {
		return nil, err
	}
	if r.Base == nil {
		return layers.WholeTree(whole)
	}
	base, err := tree(r, r.Base.Tree)
	if err != nil {
		return nil, err
	}
	if r.Repro.Fixed { // as the tree's own times are
		base = layers.Clamp(base, layers.TimespecOf(r.Repro.Epoch))
	}
	return layers.Changes(ctx, base, whole)
}

// tree is what of a tree goes into a container: it is without what only served the building and, unless the description says otherwise, without the
// content of directories that are filled when a system runs.
func tree(r *image.Request, whole *layers.Tree) (*layers.Tree, error) {
	patterns := append(image.BuildFiles(), "dev/*", "proc/*", "sys/*")
	if r.Description.Type.EnsureEmptyTmpdirs {
		patterns = append(patterns, "run/*", "tmp/*")
	}
	return image.Without(whole, patterns...)
}

// compression is how the layer is packed. A docker archive holds plain layers, an OCI archive and a registry gzipped ones, which every reader of
// OCI images knows.
func compression(r *image.Request, form reference.Transport) layers.Compression {
	switch {
	case r.Container.Compression != nil:
		return *r.Container.Compression
	case form == reference.DockerArchive && !r.Container.Keep:
		return layers.Compression{}
	}
	return layers.Compression{Algorithm: layers.Gzip}
}

// makeImage packs the layer into a file and makes an image of it.
func makeImage(ctx context.Context, r *image.Request, name string, form reference.Transport) (v1.Image, error) {
	content, err := content(ctx, r)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	task := r.Progress.Start("packing the root tree", content.DataSize(), progress.Bytes)
	packed, err := layers.Pack(ctx, f, content, layers.PackOptions{Compression: compression(r, form), Progress: task.Add})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	task.Done(err)
	if err != nil {
		return nil, err
	}
	return assemble(r, packed, func(v1.Descriptor) (manifest.Blob, error) { return openBlob(name) })
}

// assemble makes the image: the base's layers and the new one, or that one alone.
func assemble(r *image.Request, packed *layers.Packed, open manifest.Opener) (v1.Image, error) {
	t := &r.Description.Type
	var base v1.Image
	if r.Base != nil && !t.DeltaRoot {
		base = r.Base.Image
	}
	img, err := manifest.AsOCI(base)
	if err != nil {
		return nil, err
	}
	diffID, err := v1.NewHash(packed.DiffID.String())
	if err != nil {
		return nil, err
	}
	digest, err := v1.NewHash(packed.Digest.String())
	if err != nil {
		return nil, err
	}
	layer := manifest.NewLayer(v1.Descriptor{MediaType: types.MediaType(packed.MediaType), Size: packed.Size, Digest: digest}, diffID, open)
	img, err = mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: types.MediaType(packed.MediaType), History: history(r.Description, r.Repro.Epoch)})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	if r.Base != nil && t.DeltaRoot {
		if err := asDelta(config, r.Base); err != nil {
			return nil, err
		}
	}
	config.Created = v1.Time{Time: r.Repro.Epoch}
	configure(config, r.Description, r.Base != nil)
	checkStart(r.Log, r.Tree, &config.Config)
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	notes, err := annotations(r.Description, r.Base, r.Repro.Epoch)
	if err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(img, notes).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotating an image gave a %T", annotated)
	}
	return annotated, nil
}

// asDelta gives a delta container the config of its base, so that it runs like the whole one where it is put back, and its label.
func asDelta(config *v1.ConfigFile, base *image.Base) error {
	was, err := base.Image.ConfigFile()
	if err != nil {
		return err
	}
	digest, err := base.Image.Digest()
	if err != nil {
		return err
	}
	config.Config = was.DeepCopy().Config
	setLabel(&config.Config, container.DeltaLabel, digest.String())
	return nil
}
