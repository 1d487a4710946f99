package stack

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
)

// Plan is what a build would do.
type Plan struct {
	Containers []registry.FetchPlan `json:"containers"`
	// Report is that of the stack; nil if containers have to be pulled first.
	Report *Report `json:"report,omitempty"`
	// Image is what would be built; nil if its description lies in a container that has to be pulled first.
	Image *PlannedImage `json:"image,omitempty"`
	// Overlay says what would be added to the stack, Build what the builder would make; empty if containers have to be pulled first.
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

// MakePlan finds out what [Build] would do, pulls nothing and writes nothing but indexes of layers in the store.
func MakePlan(ctx context.Context, client *registry.Client, opts BuildOptions) (*Plan, error) {
	opts.fill()
	plan := &Plan{}
	var image *description.Image
	if opts.Description != "" {
		var err error
		if image, err = loadDescription(opts); err != nil {
			return nil, err
		}
		plan.describe(image, false)
	}
	here := true
	for _, name := range opts.Containers {
		found, err := client.Plan(ctx, name, opts.Fetch)
		if err != nil {
			return nil, err
		}
		plan.Containers = append(plan.Containers, *found)
		here = here && found.Local
	}
	if !here {
		return plan, nil
	}
	return plan, plan.stack(ctx, client, image, opts)
}

func (p *Plan) describe(image *description.Image, rebuild bool) {
	p.Image = &PlannedImage{Name: image.Name, Version: image.Version, Arch: image.Arch, Type: image.Type.Image, Profiles: image.Profiles, Rebuild: rebuild}
	if !rebuild {
		p.Image.Packages = append(description.Names(image.Packages.Bootstrap.Packages), description.Names(image.Packages.System.Packages)...)
	}
}

// stack makes the stack of containers that are here and asks those who would work on it.
func (p *Plan) stack(ctx context.Context, client *registry.Client, image *description.Image, opts BuildOptions) error {
	s, err := Make(ctx, client, opts.Options)
	if err != nil {
		return err
	}
	defer s.Close()
	p.Report = s.Report
	rebuild := image == nil
	if rebuild {
		if image, err = s.description(opts); err != nil {
			return err
		}
		p.describe(image, true)
	}
	source := opts.Repro.With(s.inputs()...)
	overlay, err := rootfs.PlanOverlay(ctx, rootfs.Request{Tree: s.Tree, Description: image, Phase: phase(rebuild), PackageCache: opts.PackageCache,
		Repro: source, Progress: opts.Progress, Log: opts.Log})
	if err != nil {
		return err
	}
	p.Overlay = overlay.String()
	if overlay.Unpack { // what the builder would be given is known only afterwards
		return nil
	}
	p.Build, err = imagetypes.Plan(ctx, imagetypes.CreateOptions{Tree: s.Tree, Description: image, TargetDir: opts.TargetDir, Repro: source,
		Progress: opts.Progress, Log: opts.Log})
	return err
}

// WriteText writes the plan for people.
func (p *Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString("Containers:\n")
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
	if p.Report == nil {
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
