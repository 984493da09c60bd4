{{ config(materialized="incremental", unique_key="n") }}
select n, sym, price from {{ source("nyse", "trades") }}
{% if is_incremental() %} where n > (select coalesce(max(n), 0) from {{ this }}) {% endif %}
