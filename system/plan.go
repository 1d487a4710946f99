package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
	"github.com/imgbuild/imgbuild/stack"
)

// Plan is what a build would do.
type Plan struct {
	Containers []registry.FetchPlan `json:"containers,omitempty"`
	// Report is that of the stack; nil without one, or if containers have to be pulled first.
	Report *stack.Report `json:"report,omitempty"`
	// Image is what would be built; nil if its description lies in a container that has to be pulled first.
	Image *PlannedImage `json:"image,omitempty"`
	// Overlay says what would be added to the root tree, Build what the builder would make; empty if containers have to be pulled first.
	Overlay string `json:"overlay,omitempty"`
	Build   string `json:"build,omitempty"`
}

// PlannedImage is the image that would be built.
type PlannedImage struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Arch     string   `json:"architecture"`
	Type     string   `json:"type"`
	Profiles []string `json:"profiles,omitempty"`
	Packages []string `json:"packages,omitempty"` // that the description names
	Rebuild  bool     `json:"rebuild"`            // the description comes from a container
}

// MakePlan finds out what [Build] would do, pulls nothing and writes nothing but indexes of layers in the store and lists of packages in the cache.
func MakePlan(ctx context.Context, opts BuildOptions) (*Plan, error) {
	j, err := newJob(opts.Options, opts.AllowExistingRoot)
	if err != nil {
		return nil, err
	}
	plan := &Plan{}
	err = errors.Join(plan.make(ctx, j, opts), j.close())
	if err != nil {
		return nil, err
	}
	return plan, nil
}

func (p *Plan) make(ctx context.Context, j *job, opts BuildOptions) error {
	names := j.Stack.Containers
	if j.image != nil {
		p.describe(j)
		if len(names) == 0 {
			var err error
			if names, err = j.baseNames(ctx); err != nil {
				return err
			}
		}
	}
	here := true
	for _, name := range names {
		client, err := j.Client()
		if err != nil {
			return err
		}
		found, err := client.Plan(ctx, name, j.Stack.Fetch)
		if err != nil {
			return err
		}
		p.Containers = append(p.Containers, *found)
		here = here && found.Local
	}
	if !here {
		return nil
	}
	return p.overlay(ctx, j, opts)
}

func (p *Plan) describe(j *job) {
	image := j.image
	p.Image = &PlannedImage{Name: image.Name, Version: image.Version, Arch: image.Arch, Type: image.Type.Image, Profiles: image.Profiles, Rebuild: j.inTree}
	if !j.inTree {
		p.Image.Packages = append(description.Names(image.Packages.Bootstrap.Packages), description.Names(image.Packages.System.Packages)...)
	}
}

// overlay asks those who would work on the root tree, whose containers are here.
func (p *Plan) overlay(ctx context.Context, j *job, opts BuildOptions) error {
	work, err := workplaceOf(filepath.Join(opts.TargetDir, RootDir))
	if err != nil {
		return err
	}
	existing, err := work.occupied()
	if err != nil {
		return err
	}
	from := ""
	if existing && opts.AllowExistingRoot {
		from = work.root
	}
	if err := j.start(ctx, from); err != nil {
		return err
	}
	if len(j.Stack.Containers) > 0 {
		p.Report = j.stack.Report
	}
	phase := rootfs.Whole
	if j.inTree {
		phase = rootfs.Create
		p.describe(j)
	}
	request := j.request(phase, "")
	overlay, err := rootfs.PlanOverlay(ctx, request)
	if err != nil {
		return err
	}
	p.Overlay = overlay.String()
	if overlay.Unpack { // what the builder would be given is known only afterwards
		return nil
	}
	p.Build, err = imagetypes.Plan(ctx, imagetypes.CreateOptions{Tree: j.tree, Description: j.image, Base: j.base, TargetDir: opts.TargetDir, Repro: request.Repro,
		Progress: j.Progress, Log: j.Log})
	return err
}

// WriteText writes the plan for people.
func (p *Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	if len(p.Containers) > 0 {
		b.WriteString("Containers:\n")
	}
	for i, c := range p.Containers {
		fmt.Fprintf(&b, "  %d. %s  %s, %s", i+1, c.Name, progress.FormatCount(c.Layers, "layer"), progress.FormatBytes(c.Size))
		if c.Local {
			fmt.Fprintf(&b, ", here in %s\n", c.Where)
		} else {
			fmt.Fprintf(&b, ", to pull %s from %s\n", progress.FormatBytes(c.PullBytes), c.Where)
		}
	}
	if p.Report != nil {
		if err := p.writeStack(&b); err != nil {
			return err
		}
	}
	if i := p.Image; i != nil {
		fmt.Fprintf(&b, "Image: %s %s for %s, type %s", i.Name, i.Version, i.Arch, i.Type)
		if i.Rebuild {
			b.WriteString(", built again after the container's own description")
		}
		b.WriteString("\n")
		if len(i.Packages) > 0 {
			fmt.Fprintf(&b, "  packages: %s\n", strings.Join(i.Packages, " "))
		}
	}
	for _, part := range []struct{ title, text string }{{"Added to the root tree", p.Overlay}, {"Built", p.Build}} {
		if part.text != "" {
			fmt.Fprintf(&b, "%s:\n%s", part.title, indent(part.text))
		}
	}
	if p.Overlay == "" {
		b.WriteString("What clashes, and sizes of the image, can be told once the containers are here: see 'imgbuild pull'.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Plan) writeStack(b *strings.Builder) error {
	var text strings.Builder
	if err := p.Report.WriteText(&text); err != nil {
		return err
	}
	fmt.Fprintf(b, "Stack, by the rule %q:\n%s", p.Report.Rule, indent(text.String()))
	return nil
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
