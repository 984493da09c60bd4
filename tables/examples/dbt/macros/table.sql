{# Builds a model of type table without renaming, which DuckDB's extension for Iceberg cannot: the first run creates the
   table, and later ones replace all rows in one transaction. The columns must stay the same. #}
{% materialization table, adapter="duckdb" %}
  {% set target = this.incorporate(type="table") %}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks) }}
  {% if load_cached_relation(this) is none %}
    {% call statement("main") %}{{ create_table_as(False, target, sql) }}{% endcall %}
  {% else %}
    {% call statement("delete") %}delete from {{ target }}{% endcall %}
    {% call statement("main") %}insert into {{ target }} by name ({{ sql }}){% endcall %}
  {% endif %}
  {{ run_hooks(post_hooks) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({"relations": [target]}) }}
{% endmaterialization %}
