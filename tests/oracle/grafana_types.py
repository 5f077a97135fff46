"""Are the dashboards what Grafana's own types (@grafana/schema) say? Exit code 1 with the compiler's words if not.

usage: grafana_types.py FOLDER DASHBOARD...     FOLDER holds node_modules

Each dashboard becomes a TypeScript literal, so the compiler also refuses keys that no type has.
"""

import json
import subprocess
import sys
from pathlib import Path

HEAD = """
import type { AnnotationQuery, Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the values of enums, not their names; and what is left out has a default.
type Json<T> = T extends string ? `${T}` : T extends (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
type Deep<T> = T extends (infer U)[] ? Deep<U>[] : T extends object ? { [K in keyof T]?: Deep<T[K]> } : T;
type Defaults<Custom> = Omit<FieldConfig, 'custom'> & { custom?: Deep<Custom> };
type Typed<Kind, Options, Custom = never> = Json<
  Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'id' | 'gridPos' | 'title' | 'description'> & {
    type: Kind; options: Deep<Options>;
    fieldConfig: { defaults: Defaults<Custom>; overrides: FieldConfigSource['overrides'] };
  } & Required<Pick<Panel, 'id' | 'gridPos' | 'title' | 'description'>>>;
type Any =
  | Json<Omit<RowPanel, 'panels'>> & { panels: [] }
  | Typed<'stat', stat.Options>
  | Typed<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | Typed<'table', table.Options, table.FieldConfig>
  | Typed<'bargauge', bargauge.Options>;
// Queries are the data sources' own; dashboards.py looks at them.
type Annotation = Omit<AnnotationQuery, 'target'> & { target: Record<string, unknown> };
type Whole = Json<Omit<Dashboard, 'panels' | 'annotations'>> & {
  uid: string; title: string; panels: Any[]; annotations: { list: Json<Annotation>[] };
};
"""
OPTIONS = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]


def main(folder, paths):
    text = HEAD + "".join(
        f"\n// {path.name}\nexport const dashboard{place}: Whole = {path.read_text(encoding='utf-8').strip()};\n"
        for place, path in enumerate(paths)
    )
    source = folder / "dashboards.ts"
    source.write_text(text, encoding="utf-8")
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    told = subprocess.run(["node", compiler, *OPTIONS, source], cwd=folder, capture_output=True, text=True, check=False)
    if told.returncode:
        sys.exit(told.stdout + told.stderr)
    panels = sum(len(json.loads(path.read_text(encoding="utf-8"))["panels"]) for path in paths)
    print(f"{len(paths)} dashboards with {panels} panels are what Grafana's types say")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
